"""The model that every run starts from: the demo's sums and tokenizer, a smaller Qwen2, taught until it is half right.

Written once, a plain Hugging Face folder, so that all runs start from the same bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from services.cli.demo.starter import BATCH, CONTEXT_TOKENS, accuracy, answer_loss, encode
from services.cli.demo.sums import Split, split
from services.cli.demo.tokenizer import build_tokenizer

SEED = 7
HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS = 64, 2, 4, 2
INITIALISER_RANGE = 0.08
LEARNING_RATE, WARMUP_BATCHES = 4e-3, 20
TARGET = 0.47
"""Expected reward at temperature 1 at which teaching stops."""
MAX_BATCHES = 4000
PROBE_SUMS = 256
PROBE_EVERY = 2


class StarterNotReached(RuntimeError):
    """The model did not reach the target in the batches allowed."""


def questions() -> Split:
    """The sums of all runs: to train on, to measure on, and to decide when teaching stops."""
    return split(SEED)


def build(tokenizer: Any) -> Any:
    """The untaught model, about 75 thousand parameters."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        max_position_embeddings=CONTEXT_TOKENS,
        initializer_range=INITIALISER_RANGE,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return Qwen2ForCausalLM(config)


def teach(model: Any, tokenizer: Any) -> float:
    """Cross-entropy on right answers until the target; the expected reward reached. Raises StarterNotReached."""
    data = questions()
    train, start = encode(tokenizer, data.train)
    probe, _ = encode(tokenizer, data.probe[:PROBE_SUMS])
    generator = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.95))
    found = 0.0
    for batch in range(1, MAX_BATCHES + 1):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, batch / WARMUP_BATCHES)
        loss = answer_loss(model, train[torch.randint(len(train), (BATCH,), generator=generator)], start)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if batch % PROBE_EVERY == 0:
            found = accuracy(model, probe, start).sampled
            if found >= TARGET:
                return found
    raise StarterNotReached(f"expected reward {found:.2f} after {MAX_BATCHES} batches, wanted {TARGET}")


def starter(folder: Path) -> Path:
    """The folder of the starter model below `folder`; made on first use."""
    model_folder = folder / f"starter-{HIDDEN}x{LAYERS}-{SEED}"
    if not model_folder.exists():
        tokenizer = build_tokenizer(CONTEXT_TOKENS)
        model = build(tokenizer)
        teach(model, tokenizer)
        staging = model_folder.with_name(f".{model_folder.name}.tmp")
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        staging.rename(model_folder)
    return model_folder

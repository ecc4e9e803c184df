"""The starter model: a small Qwen2 that is taught sums and stopped while it is wrong more often than right.

Teaching ends when the mean probability of the whole right answer on held-out sums reaches a target. That mean is the
expected reward at temperature 1. So the model still lacks knowledge, not only confidence, and has something left to
learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.cli.demo.sums import Split, Sum

HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS = 128, 3, 4, 2
INITIALISER_RANGE = 0.08
"""Four times the usual: weights this large move little, relative to their size, when an update is mostly noise."""
CONTEXT_TOKENS = 256
LEARNING_RATE, BETAS, WARMUP_BATCHES = 4e-3, (0.9, 0.95), 20
BATCH = 128
PROBE_SUMS = 256
PROBE_EVERY, PROBE_OFTEN_EVERY = 10, 2
"""Batches between two probes, up to a quarter of the target and beyond, where the reward rises within a few batches."""
TARGET = 0.4
MAX_BATCHES = 2000

Progress = Callable[[int, float], None]
"""Called with batches so far and expected reward."""


class StarterNotReached(RuntimeError):
    """The model did not reach the target in the batches allowed."""


@dataclass(frozen=True)
class Accuracy:
    """On sums never trained on: expected reward at temperature 1, and the share of right greedy answers."""

    sampled: float
    greedy: float


def build_model(tokenizer: Any, seed: int, *, hidden: int = HIDDEN, layers: int = LAYERS) -> Any:
    """The untrained model."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
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
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def encode(tokenizer: Any, sums: list[Sum]) -> tuple[Tensor, int]:
    """Token ids [N, T] of whole conversations, and where the answer begins. All sums have the same length."""
    prompts = [[{"role": "user", "content": one.question}] for one in sums]
    whole = [[*prompt, {"role": "assistant", "content": one.answer}] for prompt, one in zip(prompts, sums, strict=True)]
    first = tokenizer.apply_chat_template(prompts[0], add_generation_prompt=True, return_dict=True)
    tokens = tokenizer.apply_chat_template(whole, return_dict=True)
    return torch.tensor(tokens["input_ids"]), len(first["input_ids"])


@torch.no_grad()
def accuracy(model: Any, tokens: Tensor, start: int) -> Accuracy:
    """Exact, from the log-probs of the right answers."""
    logits = model(tokens[:, :-1]).logits[:, start - 1 :]
    answers = tokens[:, start:]
    logprobs = logits.log_softmax(-1).gather(-1, answers.unsqueeze(-1)).squeeze(-1).sum(1)
    return Accuracy(float(logprobs.exp().mean()), float((logits.argmax(-1) == answers).all(1).float().mean()))


def answer_loss(model: Any, tokens: Tensor, start: int) -> Tensor:
    """Cross-entropy of the answers' tokens, those from `start` on, with the end token."""
    logits = model(tokens[:, :-1]).logits[:, start - 1 :]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, start:].flatten())


def pretrain(
    model: Any,
    tokenizer: Any,
    data: Split,
    seed: int,
    progress: Progress | None = None,
    *,
    target: float = TARGET,
    max_batches: int = MAX_BATCHES,
) -> Accuracy:
    """Teach the model until the target; returns what it can do on the probe set. Raises StarterNotReached."""
    train, start = encode(tokenizer, data.train)
    probe, _ = encode(tokenizer, data.probe[:PROBE_SUMS])
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=BETAS)
    found = Accuracy(0.0, 0.0)
    for batch in range(1, max_batches + 1):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, batch / WARMUP_BATCHES)
        loss = answer_loss(model, train[torch.randint(len(train), (BATCH,), generator=generator)], start)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if batch % (PROBE_OFTEN_EVERY if found.sampled > target / 4 else PROBE_EVERY) == 0:
            found = accuracy(model, probe, start)
            if progress is not None:
                progress(batch, found.sampled)
            if found.sampled >= target:
                return found
    raise StarterNotReached(f"expected reward {found.sampled:.2f} after {max_batches} batches, wanted {target}")

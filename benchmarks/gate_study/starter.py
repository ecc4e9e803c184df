"""The model that every run starts from: the demo's recipe on a smaller Qwen2, taught until it is half right.

Written once, a plain Hugging Face folder, so that all runs start from the same bits.
"""

from __future__ import annotations

from pathlib import Path

from services.cli.demo.starter import CONTEXT_TOKENS, build_model, pretrain
from services.cli.demo.sums import Split, split
from services.cli.demo.tokenizer import build_tokenizer

SEED = 7
HIDDEN, LAYERS = 64, 2
"""About 75 thousand parameters."""
TARGET, MAX_BATCHES = 0.47, 4000
"""Expected reward at temperature 1 at which teaching stops, and when it gives up."""


def questions() -> Split:
    """The sums of all runs: to train on, to measure on, and to decide when teaching stops."""
    return split(SEED)


def starter(folder: Path) -> Path:
    """The folder of the starter model below `folder`; made on first use. Raises StarterNotReached."""
    model_folder = folder / f"starter-{HIDDEN}x{LAYERS}-{SEED}"
    if not model_folder.exists():
        tokenizer = build_tokenizer(CONTEXT_TOKENS)
        model = build_model(tokenizer, SEED, hidden=HIDDEN, layers=LAYERS)
        pretrain(model, tokenizer, questions(), SEED, target=TARGET, max_batches=MAX_BATCHES)
        staging = model_folder.with_name(f".{model_folder.name}.tmp")
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        staging.rename(model_folder)
    return model_folder

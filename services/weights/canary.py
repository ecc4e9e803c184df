"""The canary: log-probs of fixed tokens, computed by the learner and asked of every engine after every load.

An engine that answers wrongly does not have the weights it was given, whatever the load call returned. Float32 must
agree within 5e-4, relative to max(1, |log-prob|): the tokens are random, so that a trained model finds some of them
next to impossible, and float32 can't say -40 to four places after the point. The differences of correct engines have a
long tail: the median is 2e-6, 1 in 100 is above 1e-5, and 1 in 6,000 is above 1e-4, where a model has become very sure.

Lower precisions differ by themselves, so their limit is three times the difference that the same engine showed right
after its cold load. The weights of a cold load are checked exactly by other means.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

FLOAT32_LIMIT = 5e-4
COLD_FACTOR = 3.0


@dataclass(frozen=True)
class CanaryResult:
    """The verdict; `mismatch` is the largest difference in log-prob (nats), relative to max(1, |log-prob|)."""

    passed: bool
    mismatch: float
    limit: float


def canary_tokens(vocab_size: int, seed: int, length: int = 24, forbidden: Collection[int] = ()) -> list[int]:
    """`length` token ids below `vocab_size`, none of `forbidden` (special tokens), the same for the same seed.

    Raises ValueError when fewer than two tokens are allowed.
    """
    refused = frozenset(forbidden)
    allowed = [token for token in range(vocab_size) if token not in refused]
    if len(allowed) < 2:
        raise ValueError(f"vocab_size: {len(allowed)} tokens are left for the canary, at least 2 are needed")
    return random.Random(seed).choices(allowed, k=length)


@torch.no_grad()
def compute(model: Any, token_ids: Sequence[int]) -> list[float]:
    """Log-probs of `token_ids[1:]` under a Hugging Face causal model at temperature 1, in float32."""
    device = next(model.parameters()).device
    tokens = torch.tensor([list(token_ids)], device=device)
    logits = model(input_ids=tokens).logits[0, :-1].float()
    logprobs = torch.log_softmax(logits, dim=-1).gather(-1, tokens[0, 1:, None])[:, 0]
    return [float(value) for value in logprobs]


def check(
    expected: Sequence[float], got: Sequence[float], *, dtype: str, cold_mismatch: float | None = None
) -> CanaryResult:
    """Compare an engine's answer with the manifest's.

    Args:
        dtype: the engine's ("float32", "bfloat16", "float16").
        cold_mismatch: what this engine showed after its cold load; None when this is the cold load, which any finite
            answer passes below float32.
    """
    limit = FLOAT32_LIMIT
    if dtype != "float32":
        limit = math.inf if cold_mismatch is None else max(FLOAT32_LIMIT, COLD_FACTOR * cold_mismatch)
    if len(expected) != len(got) or not all(math.isfinite(value) for value in (*expected, *got)):
        return CanaryResult(False, math.inf, limit)
    mismatch = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(expected, got, strict=True))
    return CanaryResult(mismatch <= limit, mismatch, limit)

"""Shaping of rewards: pure functions of a completion, standard library only."""

from __future__ import annotations


def overlong_penalty(tokens: int, *, max_tokens: int, cache_tokens: int) -> float:
    """DAPO's soft punishment of length (arXiv 2503.14476), in [−1, 0], to be added to the reward.

    0 up to max_tokens − cache_tokens, then linearly down to −1 at max_tokens, and −1 beyond. The paper has a maximum of
    20,480 with a cache of 4,096. Raises ValueError naming the argument.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens: must be at least 1, got {max_tokens!r}")
    if not 1 <= cache_tokens <= max_tokens:
        raise ValueError(f"cache_tokens: must lie in [1, {max_tokens}], got {cache_tokens!r}")
    if tokens < 0:
        raise ValueError(f"tokens: must not be negative, got {tokens!r}")
    excess = tokens - (max_tokens - cache_tokens)
    return -min(max(excess / cache_tokens, 0.0), 1.0) + 0.0

"""Means over tokens and over a batch.

Aggregation is a factor N per token: loss = −Σ N·(objective of the token). Its denominators count the whole batch, not
the micro-batch, so that the losses of micro-batches add up to the loss of the batch. Sequences without an unmasked
token contribute 0 and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sspo_core.config import AggregationName
from sspo_core.types import Denominators


def token_counts(mask_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """T_i as [B, 1], at least 1."""
    return mask_BT.sum(dim=1, keepdim=True).clamp(min=1).to(dtype)


def token_mean(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the unmasked tokens of each sequence, [B, 1]; 0 where there is none."""
    return torch.where(mask_BT, x_BT, 0.0).sum(dim=1, keepdim=True) / token_counts(mask_BT, x_BT.dtype)


def _per_sequence(mask_BT: Tensor, dtype: torch.dtype, denominators: Denominators | None) -> Tensor:
    """1/B, [B, 1]."""
    if denominators is None:
        sequences = mask_BT.any(dim=1).sum().clamp(min=1)
        return (1.0 / sequences.to(dtype)).expand(mask_BT.shape[0], 1)
    return torch.full((mask_BT.shape[0], 1), 1.0 / max(denominators.sequences, 1), dtype=dtype, device=mask_BT.device)


def _seq_mean_token_mean(mask_BT: Tensor, dtype: torch.dtype, denominators: Denominators | None) -> Tensor:
    counts_B1 = token_counts(mask_BT, dtype)
    if denominators is None:
        return 1.0 / (counts_B1 * mask_BT.any(dim=1).sum().clamp(min=1))
    return 1.0 / (counts_B1 * max(denominators.sequences, 1))


def _token_mean(mask_BT: Tensor, dtype: torch.dtype, denominators: Denominators | None) -> Tensor:
    tokens = mask_BT.sum().clamp(min=1) if denominators is None else max(denominators.tokens, 1)
    return torch.ones_like(mask_BT, dtype=dtype) / tokens


AGGREGATIONS: dict[AggregationName, Callable[[Tensor, torch.dtype, Denominators | None], Tensor]] = {
    "seq-mean-token-mean": _seq_mean_token_mean,
    "token-mean": _token_mean,
    "seq-mean-token-sum": _per_sequence,
    "sum-norm": _per_sequence,
}
"""Name → N, broadcastable with [B, T]: 1/(B·T_i), 1/ΣT_i, 1/B, and 1/B again, which sum-norm divides by its L."""

"""Advantages from rewards: each completion against the others of its prompt, or against the whole batch.

`group_std` is GRPO's (arXiv 2402.03300), `group_mean` Dr. GRPO's (arXiv 2503.20783), `leave_one_out` RLOO's
(arXiv 2402.14740), `batch_whitened` REINFORCE++'s (arXiv 2501.03262). A group of one has nothing to be compared with,
and equal rewards don't tell its members apart: their advantage is 0 under every kind of the group. Such groups are
trained like any other; `informative` finds them for a trainer that would rather drop them. A member that is missing
(its completion or its reward failed) is not a reward of 0: it counts nowhere, and its own advantage is 0.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from sspo_core.config import AdvantageKind

STD_FLOOR = 1e-6
VARIANCE_FLOOR = 1e-8


def group_advantages(
    rewards: Tensor,
    kind: AdvantageKind = "group_std",
    *,
    group_ids: Tensor | None = None,
    present: Tensor | None = None,
    token_counts: Tensor | None = None,
) -> Tensor:
    """Advantages in the shape of `rewards`, at least float32.

    `rewards` is [groups, G], or flat [N] with `group_ids` [N] (any integers, in any order, groups of any size).
    `present`, boolean in the shape of `rewards`, says which members there are; without it all of them.

        group_std       (R − mean) / (std + 1e-6), std unbiased
        group_mean      R − mean
        leave_one_out   R − mean of the others = G/(G − 1)·(R − mean)
        batch_whitened  (R − mean) / sqrt(variance + 1e-8) over the batch, where a completion counts once for each of
                        its `token_counts` unmasked tokens (without them once); give it the whole batch in one call

    Raises ValueError naming the argument: unknown kind, shapes that don't fit, rewards that are not finite.
    """
    if kind not in get_args(AdvantageKind):
        raise ValueError(f"kind: must be one of {', '.join(get_args(AdvantageKind))}; got {kind!r}")
    index_N, present_N = _group_index(rewards, group_ids), _present(rewards, present)
    rewards_N = torch.where(present_N, rewards.detach().reshape(-1).double(), 0.0)
    if not bool(torch.isfinite(rewards_N).all()):
        raise ValueError("rewards: must be finite")
    if kind == "batch_whitened":
        advantages_N = _whitened(rewards_N, present_N, _weights(rewards, token_counts))
    else:
        advantages_N = _within_groups(rewards_N, kind, index_N, present_N)
    advantages_N = torch.where(present_N, advantages_N, 0.0)
    return advantages_N.reshape(rewards.shape).to(torch.promote_types(rewards.dtype, torch.float32))


def informative(rewards: Tensor, *, group_ids: Tensor | None = None, present: Tensor | None = None) -> Tensor:
    """Whether the group of each member has two rewards that differ, boolean in the shape of `rewards`.

    The others have an advantage of 0 and add no policy gradient; DAPO (arXiv 2503.14476) drops them and samples again.
    Raises ValueError as `group_advantages` does.
    """
    index_N, present_N = _group_index(rewards, group_ids), _present(rewards, present)
    rewards_N = torch.where(present_N, rewards.detach().reshape(-1).double(), 0.0)
    if not bool(torch.isfinite(rewards_N).all()):
        raise ValueError("rewards: must be finite")
    low_N = _group_reduce(torch.where(present_N, rewards_N, torch.inf), index_N, "amin")
    high_N = _group_reduce(torch.where(present_N, rewards_N, -torch.inf), index_N, "amax")
    return (high_N > low_N).reshape(rewards.shape)


def _within_groups(rewards_N: Tensor, kind: AdvantageKind, index_N: Tensor, present_N: Tensor) -> Tensor:
    # From the group's smallest reward: equal rewards must give 0, not a rounding error divided by the floor of the std.
    rewards_N = rewards_N - _group_reduce(torch.where(present_N, rewards_N, torch.inf), index_N, "amin")
    size_N = _group_reduce(present_N.double(), index_N, "sum")
    mean_N = _group_reduce(torch.where(present_N, rewards_N, 0.0), index_N, "sum") / size_N.clamp(min=1.0)
    centred_N = torch.where(present_N, rewards_N - mean_N, 0.0)
    others_N = (size_N - 1.0).clamp(min=1.0)
    if kind == "group_mean":
        return centred_N
    if kind == "leave_one_out":
        return centred_N * size_N / others_N
    variance_N = _group_reduce(centred_N.square(), index_N, "sum") / others_N
    return centred_N / (variance_N.sqrt() + STD_FLOOR)


def _whitened(rewards_N: Tensor, present_N: Tensor, weights_N: Tensor) -> Tensor:
    weights_N = torch.where(present_N, weights_N, 0.0)
    total = weights_N.sum()
    if not bool(total > 0):
        return torch.zeros_like(rewards_N)
    rewards_N = rewards_N - rewards_N[weights_N > 0].min()
    centred_N = rewards_N - (weights_N * rewards_N).sum() / total
    variance = (weights_N * centred_N.square()).sum() / (total - 1.0).clamp(min=1.0)
    return centred_N * torch.rsqrt(variance + VARIANCE_FLOOR)


def _weights(rewards: Tensor, token_counts: Tensor | None) -> Tensor:
    if token_counts is None:
        return torch.ones_like(rewards, dtype=torch.float64).reshape(-1)
    if token_counts.shape != rewards.shape or bool((token_counts < 0).any()):
        raise ValueError(f"token_counts: must be counts {tuple(rewards.shape)}, got {tuple(token_counts.shape)}")
    return token_counts.reshape(-1).double()


def _present(rewards: Tensor, present: Tensor | None) -> Tensor:
    """Flat."""
    if present is None:
        return torch.ones_like(rewards, dtype=torch.bool).reshape(-1)
    if present.shape != rewards.shape:
        raise ValueError(f"present: must be {tuple(rewards.shape)} as rewards, got {tuple(present.shape)}")
    return present.bool().reshape(-1)


def _group_index(rewards: Tensor, group_ids: Tensor | None) -> Tensor:
    """Dense group number of every reward, flat."""
    if group_ids is None:
        if rewards.ndim != 2:
            raise ValueError(f"rewards: must be [groups, G] without group_ids, got {tuple(rewards.shape)}")
        return torch.arange(rewards.shape[0], device=rewards.device).repeat_interleave(rewards.shape[1])
    if rewards.ndim != 1 or group_ids.shape != rewards.shape:
        raise ValueError(f"group_ids: must be [N] as flat rewards, got {tuple(group_ids.shape)}")
    index: Tensor = torch.unique(group_ids, return_inverse=True)[1]
    return index


def _group_reduce(x_N: Tensor, index_N: Tensor, reduce: str) -> Tensor:
    """Sum, amin or amax over each element's group, at every element."""
    groups = int(index_N.max().item()) + 1 if index_N.numel() else 0
    return x_N.new_zeros(groups).scatter_reduce_(0, index_N, x_N, reduce, include_self=reduce == "sum")[index_N]

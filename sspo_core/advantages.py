"""Group-relative advantages: each completion against the others of its prompt.

`group_std` is GRPO's (arXiv 2402.03300), `group_mean` Dr. GRPO's (arXiv 2503.20783), `leave_one_out` RLOO's
(arXiv 2402.14740). A group of one has nothing to be compared with: its advantage is 0 under every kind.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from sspo_core.config import AdvantageKind

STD_FLOOR = 1e-6


def group_advantages(rewards: Tensor, kind: AdvantageKind = "group_std", *, group_ids: Tensor | None = None) -> Tensor:
    """Advantages in the shape of `rewards`, at least float32.

    `rewards` is [groups, G], or flat [N] with `group_ids` [N] (any integers, in any order, groups of any size).

        group_std       (R − mean) / (std + 1e-6), std unbiased
        group_mean      R − mean
        leave_one_out   R − mean of the others = G/(G − 1)·(R − mean)

    Raises ValueError naming the argument: unknown kind, shapes that don't fit, rewards that are not finite.
    """
    if kind not in get_args(AdvantageKind):
        raise ValueError(f"kind: must be one of {', '.join(get_args(AdvantageKind))}; got {kind!r}")
    if not bool(torch.isfinite(rewards).all()):
        raise ValueError("rewards: must be finite")
    index_N = _group_index(rewards, group_ids)
    groups = int(index_N.max().item()) + 1 if index_N.numel() else 0
    rewards_N = rewards.detach().reshape(-1).double()
    # From the group's smallest reward: equal rewards must give 0, not a rounding error divided by the floor of the std.
    smallest = rewards_N.new_zeros(groups).scatter_reduce_(0, index_N, rewards_N, "amin", include_self=False)
    rewards_N = rewards_N - smallest[index_N]
    size_N = torch.bincount(index_N, minlength=groups).double()[index_N]
    centred_N = rewards_N - _group_sum(rewards_N, index_N, groups) / size_N
    if kind == "group_mean":
        advantages_N = centred_N
    elif kind == "leave_one_out":
        advantages_N = centred_N * size_N / (size_N - 1.0).clamp(min=1.0)
    else:
        variance_N = _group_sum(centred_N.square(), index_N, groups) / (size_N - 1.0).clamp(min=1.0)
        advantages_N = centred_N / (variance_N.sqrt() + STD_FLOOR)
    return advantages_N.reshape(rewards.shape).to(torch.promote_types(rewards.dtype, torch.float32))


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


def _group_sum(x_N: Tensor, index_N: Tensor, groups: int) -> Tensor:
    """Sum over each element's group, at every element."""
    return x_N.new_zeros(groups).index_add_(0, index_N, x_N)[index_N]

"""Log importance ratios: made safe once, here, and then seen at the level that an objective looks at.

Invariants of what `log_ratios` returns: at least float32, finite everywhere, 0 outside the mask, ratios within ±20, and
no gradient path to a position outside the mask (inputs are replaced before the operation, so that NaN never meets
autograd).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sspo_core.objectives.aggregation import token_mean
from sspo_core.types import LossInputs

MAX_LOG_RATIO = 20.0
"""Bound on z before exp (as in verl and OpenRLHF). A token beyond it keeps its value and loses its gradient."""

RatioName = Literal["token", "turn", "sequence_geometric", "sequence_geometric_token", "sequence_product"]


@dataclass(frozen=True)
class LogRatios:
    """The [B, T] log ratios of one micro-batch."""

    mask: Tensor
    """The given mask without the tokens whose log-probs are not finite."""
    nonfinite: Tensor
    """Boolean: those tokens."""
    logprobs: Tensor
    """Of the policy; carries the gradient."""
    policy: Tensor
    """z = policy − proximal where a proximal policy is given, else policy − behaviour; carries the gradient."""
    drift: Tensor
    """policy − behaviour, detached and not clamped: what the diagnostics look at."""
    correction: Tensor | None
    """proximal − behaviour, detached."""
    reference: Tensor | None
    """reference − policy; carries the gradient."""
    turn_ids: Tensor | None


def log_ratios(inputs: LossInputs) -> LogRatios:
    """Casts, sanitises, subtracts and clamps. bf16 and fp16 are raised to float32 before the subtraction."""
    given = (
        inputs.policy_logprobs,
        inputs.behaviour_logprobs.detach(),
        None if inputs.proximal_logprobs is None else inputs.proximal_logprobs.detach(),
        None if inputs.reference_logprobs is None else inputs.reference_logprobs.detach(),
    )
    dtype = torch.promote_types(torch.promote_types(given[0].dtype, given[1].dtype), torch.float32)
    wanted = inputs.mask.bool()
    mask = wanted
    for logprobs in given:
        if logprobs is not None:
            mask = mask & torch.isfinite(logprobs.detach())

    def clean(logprobs: Tensor) -> Tensor:
        return torch.where(mask, logprobs.to(dtype), 0.0)

    policy, behaviour = clean(inputs.policy_logprobs), clean(given[1])
    proximal = None if given[2] is None else clean(given[2])
    return LogRatios(
        mask=mask,
        nonfinite=wanted & ~mask,
        logprobs=policy,
        policy=clamped(policy - (behaviour if proximal is None else proximal)),
        drift=policy.detach() - behaviour,
        correction=None if proximal is None else clamped(proximal - behaviour),
        reference=None if given[3] is None else clamped(clean(given[3]) - policy),
        turn_ids=inputs.turn_ids,
    )


def clamped(z_BT: Tensor) -> Tensor:
    """Within ±MAX_LOG_RATIO."""
    return z_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def at_level(level: RatioName, z_BT: Tensor, ratios: LogRatios) -> Tensor:
    """Log ratios of tokens, [B, T], as the log ratio of each token's turn or sequence.

    Raises ValueError naming `turn_ids` where they are needed and missing.
    """
    return _LEVELS[level](z_BT, ratios)


def _token(z_BT: Tensor, ratios: LogRatios) -> Tensor:
    return z_BT


def _turn(z_BT: Tensor, ratios: LogRatios) -> Tensor:
    """Mean over the unmasked tokens of the same turn."""
    if ratios.turn_ids is None:
        raise ValueError("turn_ids: the ratio of a turn needs them")
    turns_BT = _dense(ratios.turn_ids)  # what a masked token has there doesn't matter: it adds 0 to sum and count
    sums = z_BT.new_zeros(z_BT.shape, dtype=torch.float64).scatter_add(1, turns_BT, z_BT.double())
    counts = torch.zeros_like(sums).scatter_add(1, turns_BT, ratios.mask.double())
    means = (sums / counts.clamp(min=1.0)).gather(1, turns_BT)
    return torch.where(ratios.mask, means, 0.0).to(z_BT.dtype)


def _dense(ids_BT: Tensor) -> Tensor:
    """Numbers from 0 for the ids of every row, equal where they are."""
    sorted_BT, order_BT = ids_BT.sort(dim=1)
    steps_BT = torch.zeros_like(sorted_BT)
    steps_BT[:, 1:] = sorted_BT[:, 1:] != sorted_BT[:, :-1]
    return torch.zeros_like(steps_BT).scatter(1, order_BT, steps_BT.cumsum(dim=1)).long()


def _sequence_geometric(z_BT: Tensor, ratios: LogRatios) -> Tensor:
    """log s_i, the mean over the sequence's tokens."""
    return token_mean(z_BT, ratios.mask).expand_as(z_BT)


def _sequence_geometric_token(z_BT: Tensor, ratios: LogRatios) -> Tensor:
    """log s_i with the gradient of the token's own z (GSPO-token, arXiv 2507.18071)."""
    return token_mean(z_BT, ratios.mask).detach() + z_BT - z_BT.detach()


def _sequence_product(z_BT: Tensor, ratios: LogRatios) -> Tensor:
    """log W_i, the sum over the sequence's tokens."""
    total = torch.where(ratios.mask, z_BT, 0.0).double().sum(dim=1, keepdim=True)
    return clamped(total).to(z_BT.dtype).expand_as(z_BT)


_LEVELS: dict[RatioName, Callable[[Tensor, LogRatios], Tensor]] = {
    "token": _token,
    "turn": _turn,
    "sequence_geometric": _sequence_geometric,
    "sequence_geometric_token": _sequence_geometric_token,
    "sequence_product": _sequence_product,
}

"""Log importance ratios: made safe once, here, and then seen at the level that an objective looks at.

Invariants of what `log_ratios` returns: at least float32, finite everywhere, 0 outside the mask, within ±20, and no
gradient path to a position outside the mask (inputs are replaced before the operation, so that NaN never meets
autograd).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sspo_core.aggregation import token_mean
from sspo_core.types import LossInputs

MAX_LOG_RATIO = 20.0
"""Bound on z before exp (as in verl and OpenRLHF). A token beyond it keeps its value and loses its gradient."""

RatioName = Literal["token", "sequence_geometric"]


@dataclass(frozen=True)
class LogRatios:
    """The [B, T] log ratios of one micro-batch."""

    mask: Tensor
    """The given mask without the tokens whose log-probs are not finite."""
    nonfinite_tokens: Tensor
    """Scalar: how many those were."""
    policy: Tensor
    """z = policy − proximal where a proximal policy is given, else policy − behaviour; carries the gradient."""
    drift: Tensor
    """policy − behaviour, detached and not clamped: what the diagnostics look at."""
    correction: Tensor | None
    """proximal − behaviour, detached."""
    reference: Tensor | None
    """reference − policy; carries the gradient."""


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
        nonfinite_tokens=(wanted & ~mask).sum(),
        policy=_clamped(policy - (behaviour if proximal is None else proximal)),
        drift=policy.detach() - behaviour,
        correction=None if proximal is None else _clamped(proximal - behaviour),
        reference=None if given[3] is None else _clamped(clean(given[3]) - policy),
    )


def _clamped(z_BT: Tensor) -> Tensor:
    return z_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _token(z_BT: Tensor, mask_BT: Tensor) -> Tensor:
    return z_BT


def _sequence_geometric(z_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """log s_i at every token, with the gradient of that token's own z (GSPO-token, arXiv 2507.18071).

    Under one advantage per sequence its mean over tokens has the value and the gradient of s_i itself.
    """
    return token_mean(z_BT, mask_BT).detach() + z_BT - z_BT.detach()


RATIOS: dict[RatioName, Callable[[Tensor, Tensor], Tensor]] = {
    "token": _token,
    "sequence_geometric": _sequence_geometric,
}
"""Level at which the ratio is taken: ([B, T] log ratios, mask) → [B, T] log ratios."""

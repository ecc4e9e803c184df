"""The normalisation by the clipping bias of SORL (arXiv 2511.20718), for the trainer's side of the step.

PPO's gradient is the off-policy policy gradient less what the clip takes away, the clipping bias

    C(θ) = E[(1/|y|) Σ over clipped t of w·A·∇log π].

The paper divides the gradient by the norm of C. A step of a trainer:

1. for every micro-batch: backward of `policy_loss(...)`, and apart from it backward of `clipping_bias(...)` into
   gradients of their own (the second pass costs what the first does);
2. `scale = clipping_scale(norm of those gradients)`; multiply the step's gradients by it; clip and step as usual.

What is known and what is ours: the decomposition and the division by the norm are the paper's (equations 7 and 8 of its
first version, as its reviewers quote them). When the second version applies it ("clipping-triggered"), and whether it
bounds the division, we do not know. Here a norm up to `threshold` changes nothing, since a small bias is no reason to
enlarge a step, and above it the scale is threshold/norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from sspo_core.config import SORLConfig
from sspo_core.objectives.aggregation import AGGREGATIONS
from sspo_core.objectives.compositions import compose
from sspo_core.objectives.ratios import at_level, log_ratios
from sspo_core.types import LossInputs


def clipping_bias(inputs: LossInputs, config: SORLConfig) -> Tensor:
    """Scalar whose gradient is C(θ) of one micro-batch: Σ over clipped t of N·sg[w]·A·log π. Micro-batches add up.

    Raises ValueError naming a missing input.
    """
    composition = compose(config)
    ratios = log_ratios(inputs)
    given = inputs.advantages.detach().to(ratios.policy.dtype)
    advantages_BT = torch.where(ratios.mask, given if given.ndim == 2 else given[:, None], 0.0)
    with torch.no_grad():
        ratio_BT = at_level(composition.ratio, ratios.policy, ratios)
        clipped_BT = ratios.mask & (composition.region.h(ratio_BT, advantages_BT > 0) == 0)
        share_BT = AGGREGATIONS[composition.aggregation](ratios.mask, ratio_BT.dtype, inputs.denominators)
        weight_BT = torch.where(clipped_BT, share_BT * ratio_BT.exp() * advantages_BT, 0.0)
    return (weight_BT * ratios.logprobs).sum()


def gradient_norm(gradients: Iterable[Tensor | None]) -> Tensor:
    """L2 norm over all parameters, as a float64 scalar; a missing gradient is 0."""
    squares = [gradient.detach().double().square().sum() for gradient in gradients if gradient is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros((), dtype=torch.float64)


def clipping_scale(bias_norm: float, threshold: float = 1.0) -> float:
    """Factor for the step's gradients. Raises ValueError naming the argument that is not a finite number above 0."""
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"threshold: must be a finite number above 0, got {threshold!r}")
    if not (math.isfinite(bias_norm) and bias_norm >= 0):
        raise ValueError(f"bias_norm: must be a finite number, not negative, got {bias_norm!r}")
    return 1.0 if bias_norm <= threshold else threshold / bias_norm

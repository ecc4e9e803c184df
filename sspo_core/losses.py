"""The one entry point, `policy_loss`: an objective's loss on one micro-batch, and the state of its diagnostics.

Nothing here waits for the device. Advantages, behaviour, proximal and reference log-probs never receive a gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sspo_core.config import CorrectionConfig, KLEstimator, ObjectiveConfig
from sspo_core.diagnostics.readings import by_bucket, readings_of
from sspo_core.objectives.aggregation import AGGREGATIONS
from sspo_core.objectives.composition import Composition, Signal
from sspo_core.objectives.compositions import compose
from sspo_core.objectives.corrections import Correction, correct, ratio_of
from sspo_core.objectives.ratios import LogRatios, log_ratios
from sspo_core.types import LossInputs, LossOutputs, TokenReadings

NO_CORRECTION = CorrectionConfig()


def policy_loss(
    inputs: LossInputs, config: ObjectiveConfig, corrections: CorrectionConfig = NO_CORRECTION
) -> LossOutputs:
    """−J of the objective that `config` describes, plus kl_coefficient · KL(policy ‖ reference).

    Advantages [B]: the loss is −J itself. Advantages [B, T] under a mean over the sequence: −Σ N·A_it·sg[M]·log f_it (M
    times the token's share of it), which has the gradient of −J where A is the same for all tokens of a sequence, and
    extends it where A is not; its value is not that of −J.

    With global denominators a backend that averages gradients over ranks needs the loss times the number of ranks.
    Raises ValueError naming a missing input, TypeError for an unknown config.
    """
    composition = compose(config)
    ratios = log_ratios(inputs)
    correction = correct(composition, ratios, corrections)
    signal = Signal(
        ratios=ratios,
        ratio=ratio_of(composition, ratios, correction),
        advantages=_advantages(inputs, ratios),
        per_token=inputs.advantages.ndim == 2 or _weighs_tokens_apart(composition, correction),
        log_partition=inputs.log_partition,
    )
    value = composition.surrogate(composition, signal)
    cost_BT = -correction.weight * value.value
    if config.kl_coefficient > 0:
        if ratios.reference is None:
            raise ValueError("reference_logprobs: kl_coefficient above 0 needs them")
        penalty_BT = config.kl_coefficient * KL_ESTIMATORS[config.kl_estimator](ratios.reference)
        cost_BT = cost_BT + torch.where(correction.rejected[:, None], 0.0, penalty_BT)
    share_BT = AGGREGATIONS[composition.aggregation](ratios.mask, cost_BT.dtype, inputs.denominators)
    loss = torch.where(ratios.mask, share_BT / composition.norm_tokens * cost_BT, 0.0).sum()
    readings = readings_of(inputs, composition, signal, value, correction, corrections)
    metrics, buckets = by_bucket(readings, inputs.buckets)
    tokens = TokenReadings(log_ratio=readings.drift, weight=readings.gate.applied)
    return LossOutputs(loss=loss, metrics=metrics, buckets=buckets, tokens=tokens)


KL_ESTIMATORS: dict[KLEstimator, Callable[[Tensor], Tensor]] = {
    "k1": lambda d: -d,
    "k2": lambda d: d.square() / 2.0,
    "k3": lambda d: torch.expm1(d) - d,
}
"""Of d = reference − policy (Schulman 2020)."""


def _weighs_tokens_apart(composition: Composition, correction: Correction) -> bool:
    """Whether tokens of one mean have weights of their own: each must then scale its token's gradient, not the mean."""
    return composition.mean.per_sequence and correction.importance is not None and correction.level == "token"


def _advantages(inputs: LossInputs, ratios: LogRatios) -> Tensor:
    """[B, T], detached, 0 outside the mask."""
    given = inputs.advantages.detach().to(ratios.policy.dtype)
    return torch.where(ratios.mask, given if given.ndim == 2 else given[:, None], 0.0)

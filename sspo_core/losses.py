"""The one entry point, `policy_loss`: an objective's loss on one micro-batch, and the state of its diagnostics.

Nothing here waits for the device. Advantages, behaviour, proximal and reference log-probs never receive a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sspo_core.aggregation import AGGREGATIONS, token_mean
from sspo_core.config import ObjectiveConfig
from sspo_core.diagnostics import GateReadings, RatioDiagnostics
from sspo_core.objectives import MEANS, Composition, compose
from sspo_core.ratios import RATIOS, LogRatios, log_ratios
from sspo_core.types import LossInputs, LossOutputs


def policy_loss(inputs: LossInputs, config: ObjectiveConfig) -> LossOutputs:
    """−J of the objective that `config` describes, plus kl_coefficient · k3(policy ‖ reference).

    Advantages [B]: the loss is −J itself. Advantages [B, T] under a geometric mean: −Σ N·A_it·sg[S_i]·log f_it, which
    has the gradient of −J where A is the same for all tokens of a sequence, and extends it where A is not; its value
    is not that of −J.

    With global denominators a backend that averages gradients over ranks needs the loss times the number of ranks.
    Raises ValueError naming a missing input, TypeError for an unknown config.
    """
    composition = compose(config)
    ratios = log_ratios(inputs)
    advantages_BT = _advantages(inputs, ratios)
    positive_BT = advantages_BT > 0

    ratio_BT = RATIOS[composition.ratio](ratios.policy, ratios.mask)
    log_f_BT = composition.region.log_f(ratio_BT, positive_BT)
    weight_BT = MEANS[composition.mean](log_f_BT, ratios.mask)
    correction_BT = _correction(composition, ratios)
    if composition.mean == "geometric" and inputs.advantages.ndim == 2:
        cost_BT = -advantages_BT * correction_BT * weight_BT.detach() * log_f_BT
    else:
        cost_BT = -advantages_BT * correction_BT * weight_BT

    diagnostics = RatioDiagnostics()
    if config.kl_coefficient > 0:
        k3_BT = _reference_k3(ratios)
        cost_BT = cost_BT + config.kl_coefficient * k3_BT
        diagnostics.count(reference_k3=_masked_sum(k3_BT, ratios.mask), reference_tokens=ratios.mask.sum())
    share_BT = AGGREGATIONS[composition.aggregation](ratios.mask, cost_BT.dtype, inputs.denominators)
    loss = _masked_sum(share_BT * cost_BT, ratios.mask)

    with torch.no_grad():
        h_BT = composition.region.h(ratio_BT, positive_BT)
        applied_BT = weight_BT * h_BT
        readings = GateReadings(
            log_ratio=ratio_BT,
            weight=weight_BT,
            h=h_BT,
            update=applied_BT if composition.mean == "geometric" else applied_BT * torch.exp(-ratio_BT),
            applied=correction_BT * applied_BT,
            advantages=advantages_BT,
        )
    diagnostics.add(ratios.drift, ratios.mask)
    diagnostics.add_gate(readings, ratios.mask)
    diagnostics.count(nonfinite_tokens=ratios.nonfinite_tokens)
    return LossOutputs(loss=loss, metrics=diagnostics.state)


def _advantages(inputs: LossInputs, ratios: LogRatios) -> Tensor:
    """[B, T], detached, 0 outside the mask."""
    given = inputs.advantages.detach().to(ratios.policy.dtype)
    return torch.where(ratios.mask, given if given.ndim == 2 else given[:, None], 0.0)


def _correction(composition: Composition, ratios: LogRatios) -> Tensor:
    """proximal/behaviour, 1 without a proximal policy (decoupled PPO, arXiv 2505.24298).

    Objectives whose tokens share one weight take its geometric mean over the sequence.
    """
    if ratios.correction is None:
        return torch.ones_like(ratios.policy)
    log_weight = ratios.correction
    if composition.per_sequence:
        log_weight = token_mean(log_weight, ratios.mask).expand_as(log_weight)
    return log_weight.exp()


def _reference_k3(ratios: LogRatios) -> Tensor:
    """exp(d) − d − 1 with d = reference − policy (Schulman's k3, as in GRPO)."""
    if ratios.reference is None:
        raise ValueError("reference_logprobs: kl_coefficient above 0 needs them")
    return torch.expm1(ratios.reference) - ratios.reference


def _masked_sum(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    return torch.where(mask_BT, x_BT, 0.0).sum()

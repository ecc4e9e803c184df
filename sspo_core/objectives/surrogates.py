"""How a composition becomes a value with the right gradient: J_it per token, before the aggregation's factor N.

    pathwise    A·M                 the gradient goes through the mean and the trust region; k = A·M·share·h
    score       A·sg[f]·log π       the weight is detached; k = A·f
    divergence  −e^u·D(W·e^−u)      LAD; k = −W·D'(x), x = W·e^−u, u = A/η
    balance     −w·δ²               FlowRL, δ = log Z + mean log π − β·A − mean log π_ref; k = −2·w·δ

Values and readings are [B, T]; where the tokens of a sequence share a value it stands at each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sspo_core.config import Divergence, FlowRLConfig, LADConfig
from sspo_core.objectives.aggregation import token_mean
from sspo_core.objectives.composition import Composition, Signal, Surrogate, Value
from sspo_core.objectives.ratios import clamped


def pathwise(composition: Composition, signal: Signal) -> Value:
    """A·M; under a mean over the sequence and an advantage per token A_it·sg[M·share]·log f_it."""
    positive_BT, mask_BT = signal.advantages > 0, signal.ratios.mask
    log_f_BT = composition.region.log_f(signal.ratio, positive_BT)
    log_m_BT = composition.mean.log_mean(log_f_BT, mask_BT)
    weight_BT = composition.bound.log_f(log_m_BT, positive_BT).exp()
    with torch.no_grad():
        shares_BT = composition.mean.shares(log_f_BT, mask_BT) * composition.bound.h(log_m_BT, positive_BT)
        h_BT = composition.region.h(signal.ratio, positive_BT)
        kept_BT = weight_BT * shares_BT
    if signal.per_token and composition.mean.per_sequence:
        value_BT = signal.advantages * kept_BT * log_f_BT
    else:
        value_BT = signal.advantages * weight_BT
    return Value(value_BT, weight_BT.detach(), h_BT * composition.bound.h(log_m_BT, positive_BT), kept_BT * h_BT)


def score(composition: Composition, signal: Signal) -> Value:
    """A·sg[f]·log π."""
    positive_BT = signal.advantages > 0
    with torch.no_grad():
        weight_BT = composition.region.log_f(signal.ratio, positive_BT).exp()
        h_BT = composition.region.h(signal.ratio, positive_BT)
    return Value(signal.advantages * weight_BT * signal.ratios.logprobs, weight_BT, h_BT, weight_BT)


def divergence(config: LADConfig) -> Surrogate:
    """LAD (arXiv 2602.20132). In float64: near x = 1 the terms of the divergence cancel."""

    def surrogate(composition: Composition, signal: Signal) -> Value:
        dtype = signal.ratio.dtype
        with torch.no_grad():
            u_BT = clamped(signal.advantages.double() / config.eta)
            value_BT, k_BT = (x.to(dtype) for x in _DIVERGENCES[config.divergence](signal.ratio.double(), u_BT))
            weight_BT = signal.ratio.exp()
            readings = weight_BT, torch.ones_like(weight_BT), _per_advantage(k_BT, signal.advantages)
        return Value(value_BT + k_BT * (signal.ratio - signal.ratio.detach()), *readings)

    return surrogate


def _jensen_shannon(z_BT: Tensor, u_BT: Tensor) -> tuple[Tensor, Tensor]:
    """−½[W·log x − (W + e^u)·log((x + 1)/2)] and its slope in z, ½·W·log((1 + x)/(2x)); log x = z − u."""
    log_x_BT = z_BT - u_BT
    log_half_BT = torch.logaddexp(log_x_BT, torch.zeros_like(log_x_BT)) - math.log(2.0)
    w_BT, target_BT = z_BT.exp(), u_BT.exp()
    value_BT = -0.5 * (w_BT * log_x_BT - (w_BT + target_BT) * log_half_BT)
    return value_BT, 0.5 * w_BT * (log_half_BT - log_x_BT)


def _reverse_kl(z_BT: Tensor, u_BT: Tensor) -> tuple[Tensor, Tensor]:
    """e^u·log x and its slope in z, e^u."""
    target_BT = u_BT.exp()
    return target_BT * (z_BT - u_BT), target_BT


_DIVERGENCES: dict[Divergence, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "jensen_shannon": _jensen_shannon,
    "reverse_kl": _reverse_kl,
}


def balance(config: FlowRLConfig) -> Surrogate:
    """FlowRL (arXiv 2509.15207). Raises ValueError naming what is missing: reference_logprobs, log_partition."""

    def surrogate(composition: Composition, signal: Signal) -> Value:
        ratios, shape = signal.ratios, signal.ratio.shape
        if ratios.reference is None:
            raise ValueError("reference_logprobs: flowrl needs them")
        if signal.log_partition is None:
            raise ValueError("log_partition: flowrl needs log Z of every prompt")
        filled_B1 = ratios.mask.any(dim=1, keepdim=True)
        log_z_B1 = torch.where(filled_B1, signal.log_partition.to(signal.ratio.dtype)[:, None], 0.0)
        reward_B1 = config.beta * token_mean(signal.advantages, ratios.mask)
        delta_BT = (log_z_B1 - token_mean(ratios.reference, ratios.mask) - reward_B1).expand(shape)
        with torch.no_grad():
            weight_BT = signal.ratio.exp()
            if config.importance_clip is not None:
                weight_BT = weight_BT.clamp(1.0 - config.importance_clip, 1.0 + config.importance_clip)
            applied_BT = _per_advantage(-2.0 * weight_BT * delta_BT, signal.advantages)
        return Value(-weight_BT * delta_BT.square(), weight_BT, torch.ones_like(weight_BT), applied_BT)

    return surrogate


def _per_advantage(k_BT: Tensor, advantages_BT: Tensor) -> Tensor:
    none = advantages_BT == 0
    return torch.where(none, 0.0, k_BT / torch.where(none, 1.0, advantages_BT))

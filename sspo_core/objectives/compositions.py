"""Every objective as one composition: ratio × trust region × mean × aggregation, and the surrogate that it trains by.

    J = Σ_it N_it · A_it · M(f(ratio_it))

The gradient of each is Σ N·k·∇log π with k = A·M·h (M = f_it under the arithmetic mean, S_i under the geometric one),
which is what the tests check. The functions and the table at the end of this file are the whole difference between the
objectives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sspo_core import config as c
from sspo_core.config import ObjectiveConfig
from sspo_core.objectives.composition import GEOMETRIC, Composition
from sspo_core.objectives.means import Power
from sspo_core.objectives.surrogates import balance, divergence, pathwise, score
from sspo_core.objectives.trust_regions import Constant, GammaKernel, LogClip, SoftGate


def _sspo(config: c.GatedConfig) -> Composition:
    return Composition(region=SoftGate(config), mean=GEOMETRIC, surrogate=pathwise)


def _sapo(config: c.GatedConfig) -> Composition:
    return Composition(region=SoftGate(config), surrogate=pathwise)


def _gmpo(config: c.GMPOConfig) -> Composition:
    return Composition(
        region=LogClip(-config.clip_log_low, config.clip_log_high, label="log-clip"), mean=GEOMETRIC, surrogate=pathwise
    )


def _power_mean(config: c.PowerMeanConfig) -> Composition:
    clip = LogClip(math.log1p(-config.clip_low), math.log1p(config.clip_high), label="one-sided clip of the mean")
    return Composition(region=SoftGate(config), mean=Power(config.exponent), bound=clip, surrogate=pathwise)


def _clipped(config: c.PPOConfig | c.GRPOConfig | c.DrGRPOConfig | c.DAPOConfig | c.ReinforcePPConfig) -> Composition:
    return Composition(
        region=LogClip.of(config), aggregation=config.aggregation, norm_tokens=_norm(config), surrogate=pathwise
    )


def _gspo(config: c.GSPOConfig) -> Composition:
    return Composition("sequence_geometric", LogClip.of(config), surrogate=pathwise)


def _gspo_token(config: c.GSPOTokenConfig) -> Composition:
    return Composition("sequence_geometric_token", LogClip.of(config), surrogate=pathwise)


def _sorl(config: c.SORLConfig) -> Composition:
    return Composition("turn", LogClip.of(config), surrogate=pathwise)


def _reinforce(config: c.ReinforceConfig | c.RLOOConfig) -> Composition:
    return Composition(region=Constant(), aggregation=config.aggregation, norm_tokens=_norm(config), surrogate=score)


def _cispo(config: c.CISPOConfig) -> Composition:
    low = -math.inf if config.clip_low == 1.0 else math.log1p(-config.clip_low)
    high = math.log1p(config.clip_high)
    clip = LogClip(low, high, high_negative=high, low_positive=low, label="two-sided clip, detached")
    return Composition(region=clip, aggregation=config.aggregation, norm_tokens=_norm(config), surrogate=score)


def _vespo(config: c.VESPOConfig) -> Composition:
    return Composition(
        "sequence_product",
        GammaKernel(config.power_pos, config.decay_pos, config.power_neg, config.decay_neg),
        aggregation=config.aggregation,
        norm_tokens=_norm(config),
        surrogate=score,
        folds_correction=True,
    )


def _lad(config: c.LADConfig) -> Composition:
    return Composition(config.ratio, surrogate=divergence(config))


def _flowrl(config: c.FlowRLConfig) -> Composition:
    return Composition("sequence_product", surrogate=balance(config), folds_correction=True)


def _norm(config: Any) -> float:
    return float(config.norm_tokens) if config.aggregation == "sum-norm" else 1.0


COMPOSITIONS: dict[type[ObjectiveConfig], Callable[[Any], Composition]] = {
    c.SSPOConfig: _sspo,
    c.SAPOConfig: _sapo,
    c.GMPOConfig: _gmpo,
    c.GSPOConfig: _gspo,
    c.GSPOTokenConfig: _gspo_token,
    c.GRPOConfig: _clipped,
    c.DrGRPOConfig: _clipped,
    c.DAPOConfig: _clipped,
    c.PPOConfig: _clipped,
    c.CISPOConfig: _cispo,
    c.VESPOConfig: _vespo,
    c.PowerMeanConfig: _power_mean,
    c.SORLConfig: _sorl,
    c.LADConfig: _lad,
    c.FlowRLConfig: _flowrl,
    c.RLOOConfig: _reinforce,
    c.ReinforceConfig: _reinforce,
    c.ReinforcePPConfig: _clipped,
}


def compose(config: ObjectiveConfig) -> Composition:
    """The parts of an objective. Raises TypeError for what is not a config of `OBJECTIVES`."""
    if type(config) not in COMPOSITIONS:
        raise TypeError(f"config: must be one of sspo_core.config.OBJECTIVES, got {type(config).__name__}")
    return COMPOSITIONS[type(config)](config)

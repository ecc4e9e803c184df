"""Every objective as one composition: ratio × trust region × mean × aggregation.

    J = Σ_it N_it · A_it · M(f(ratio_it))

The gradient of each is Σ N·k·∇log π with k = A·M·h (M = f_it under the arithmetic mean, S_i under the geometric one),
which is what the tests check. The table at the end of this file is the whole difference between the objectives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from sspo_core.aggregation import token_mean
from sspo_core.config import (
    AggregationName,
    GatedConfig,
    GMPOConfig,
    GRPOConfig,
    GSPOConfig,
    ObjectiveConfig,
    RatioClipConfig,
    SAPOConfig,
    SSPOConfig,
)
from sspo_core.ratios import RatioName
from sspo_core.trust_regions import LogClip, SoftGate, TrustRegion

MeanName = Literal["arithmetic", "geometric"]


def _arithmetic(log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """f_it: the mean itself is the aggregation's."""
    return log_f_BT.exp()


def _geometric(log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """S_i = exp(mean_t log f_it) at every token of its sequence."""
    return token_mean(log_f_BT, mask_BT).exp().expand_as(log_f_BT)


MEANS: dict[MeanName, Callable[[Tensor, Tensor], Tensor]] = {
    "arithmetic": _arithmetic,
    "geometric": _geometric,
}
"""How the gated ratios of a sequence become its weight: ([B, T] log f, mask) → [B, T] weight M."""


@dataclass(frozen=True)
class Composition:
    """An objective's parts."""

    ratio: RatioName
    region: TrustRegion
    mean: MeanName
    aggregation: AggregationName

    @property
    def per_sequence(self) -> bool:
        """Whether the tokens of a sequence share one weight."""
        return self.ratio != "token" or self.mean != "arithmetic"


def _ratio_clip(config: RatioClipConfig) -> LogClip:
    return LogClip(low=math.log1p(-config.clip_low), high=math.log1p(config.clip_high))


def _sspo(config: GatedConfig) -> Composition:
    return Composition("token", SoftGate(config), "geometric", "seq-mean-token-mean")


def _sapo(config: GatedConfig) -> Composition:
    return Composition("token", SoftGate(config), "arithmetic", "seq-mean-token-mean")


def _grpo(config: GRPOConfig) -> Composition:
    return Composition("token", _ratio_clip(config), "arithmetic", config.aggregation)


def _gmpo(config: GMPOConfig) -> Composition:
    clip = LogClip(low=-config.clip_log_low, high=config.clip_log_high)
    return Composition("token", clip, "geometric", "seq-mean-token-mean")


def _gspo(config: GSPOConfig) -> Composition:
    return Composition("sequence_geometric", _ratio_clip(config), "arithmetic", "seq-mean-token-mean")


COMPOSITIONS: dict[type[ObjectiveConfig], Callable[[Any], Composition]] = {
    SSPOConfig: _sspo,
    SAPOConfig: _sapo,
    GRPOConfig: _grpo,
    GMPOConfig: _gmpo,
    GSPOConfig: _gspo,
}


def compose(config: ObjectiveConfig) -> Composition:
    """The parts of an objective. Raises TypeError for what is not a config of `OBJECTIVES`."""
    if type(config) not in COMPOSITIONS:
        raise TypeError(f"config: must be one of sspo_core.config.OBJECTIVES, got {type(config).__name__}")
    return COMPOSITIONS[type(config)](config)

"""Trust regions keep an update near the policy that sampled: a function log f of the log ratio z, and its derivative h.

A clip and a soft gate are the same thing here. min(r·A, clip(r, 1 − a, 1 + b)·A) is A·f with log f = min(z, log(1 + b))
where A > 0 and max(z, log(1 − a)) elsewhere, so PPO's clip is a one-sided clip of z. A detached weight (CISPO's clipped
ratio, VESPO's kernel) is exp(log f) too, and then h says where it is at a bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sspo_core.config import GatedConfig, RatioClipConfig
from sspo_core.objectives.gates import GATES, GateParameters
from sspo_core.objectives.ratios import MAX_LOG_RATIO


class TrustRegion(Protocol):
    """z within ±20 and A > 0 as a boolean, both [B, T], to a [B, T] tensor."""

    @property
    def label(self) -> str: ...

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor: ...

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Unbounded:
    """f = r."""

    label: str = "none"

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return z_BT

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return torch.ones_like(z_BT)


@dataclass(frozen=True)
class Constant:
    """f = 1: the ratio is not looked at."""

    label: str = "none"

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return torch.zeros_like(z_BT)

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return torch.ones_like(z_BT)


@dataclass(frozen=True)
class LogClip:
    """Bounds on z by the sign of A: up to `high` where A > 0, from `low` up to `high_negative` elsewhere.

    As it stands it is one-sided and never stops a pull back towards the sampler. A token on a bound is inside and keeps
    its whole gradient.
    """

    low: float
    high: float
    high_negative: float = math.inf
    """Dual clip: where A ≤ 0 an r above it has no gradient."""
    low_positive: float = -math.inf
    label: str = "one-sided clip"

    @classmethod
    def of(cls, config: RatioClipConfig) -> LogClip:
        """The clip of a config, whose bounds are on r."""
        low, high = math.log1p(-config.clip_low), math.log1p(config.clip_high)
        dual = math.inf if config.dual_clip is None else math.log(config.dual_clip)
        if config.clip_sides == "two":
            return cls(low, high, high_negative=min(high, dual), low_positive=low, label="two-sided clip")
        return cls(low, high, high_negative=dual, label="one-sided clip" if dual == math.inf else "dual clip")

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return torch.where(
            positive_BT, z_BT.clamp(self.low_positive, self.high), z_BT.clamp(self.low, self.high_negative)
        )

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        inside = torch.where(
            positive_BT,
            (z_BT >= self.low_positive) & (z_BT <= self.high),
            (z_BT >= self.low) & (z_BT <= self.high_negative),
        )
        return inside.to(z_BT.dtype)


@dataclass(frozen=True)
class SoftGate:
    """A gate of `gates.py`, its temperature chosen by the sign of A.

    Outward: the gate where A·z > 0, elsewhere log f = z, h = 1. Since f(1) = 1 and h(1) = 1 there is no jump.
    """

    config: GatedConfig

    @property
    def label(self) -> str:
        return "none" if self.config.gate == "identity" else f"soft gate ({self.config.gate})"

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        gated = GATES[self.config.gate].log_f(z_BT, self._parameters(z_BT, positive_BT))
        if self.config.sides == "both":
            return gated
        return torch.where(_outward(z_BT, positive_BT), gated, z_BT)

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        gated = GATES[self.config.gate].h(z_BT, self._parameters(z_BT, positive_BT))
        if self.config.sides == "both":
            return gated
        return torch.where(_outward(z_BT, positive_BT), gated, 1.0)

    def _parameters(self, z_BT: Tensor, positive_BT: Tensor) -> GateParameters:
        return GateParameters(
            tau=torch.full_like(z_BT, self.config.tau_neg).masked_fill(positive_BT, self.config.tau_pos),
            positive=positive_BT,
            alpha=self.config.alpha,
            centre=self.config.centre,
            clip_log=self.config.clip_log,
        )


@dataclass(frozen=True)
class GammaKernel:
    """φ(W) = W^power · exp(decay·(1 − W)), the kernel of VESPO (arXiv 2602.10693), with parameters by the sign of A.

    φ(1) = 1; the largest value is (power/decay)^power · exp(decay − power), at W = power/decay. For a detached weight:
    nothing is clipped, so h is 1.
    """

    power_pos: float
    decay_pos: float
    power_neg: float
    decay_neg: float
    label: str = "kernel φ(W)"

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        log_phi = torch.where(
            positive_BT,
            self.power_pos * z_BT - self.decay_pos * torch.expm1(z_BT),
            self.power_neg * z_BT - self.decay_neg * torch.expm1(z_BT),
        )
        return log_phi.clamp(max=MAX_LOG_RATIO)  # a kernel without decay has no largest value

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return torch.ones_like(z_BT)


def _outward(z_BT: Tensor, positive_BT: Tensor) -> Tensor:
    return torch.where(positive_BT, z_BT > 0, z_BT < 0)

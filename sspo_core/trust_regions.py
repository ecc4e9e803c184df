"""What keeps an update near the policy that sampled: a function log f of the log ratio z, and its derivative h.

A clip and a soft gate are the same thing here. min(r·A, clip(r, 1 − a, 1 + b)·A) is A·f with log f = min(z, log(1 + b))
where A > 0 and max(z, log(1 − a)) elsewhere, so PPO's clip is a one-sided clip of z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sspo_core.config import GatedConfig
from sspo_core.gates import GATES, GateParameters, one_sided_clip


class TrustRegion(Protocol):
    """z within ±20 and A > 0 as a boolean, both [B, T], to a [B, T] tensor."""

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor: ...

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class LogClip:
    """One-sided clip: z ≤ high where A > 0, z ≥ low elsewhere. It never stops a pull back towards the sampler."""

    low: float
    high: float

    def log_f(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return one_sided_clip(z_BT, positive_BT, self.low, self.high)[0]

    def h(self, z_BT: Tensor, positive_BT: Tensor) -> Tensor:
        return one_sided_clip(z_BT, positive_BT, self.low, self.high)[1].to(z_BT.dtype)


@dataclass(frozen=True)
class SoftGate:
    """A gate of `gates.py`, its temperature chosen by the sign of A.

    Outward: the gate where A·z > 0, elsewhere log f = z, h = 1. Since f(1) = 1 and h(1) = 1 there is no jump.
    """

    config: GatedConfig

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


def _outward(z_BT: Tensor, positive_BT: Tensor) -> Tensor:
    return torch.where(positive_BT, z_BT > 0, z_BT < 0)

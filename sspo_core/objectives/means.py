"""How the gated ratios of a sequence become its weight M, in logarithms.

M is f_it under the arithmetic mean (the mean itself is then the aggregation's), the geometric mean S_i, or the power
mean of exponent p. The gradient of log M is Σ_t share_t/T · ∇log f_t, and the shares of a sequence average 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sspo_core.objectives.aggregation import token_counts, token_mean


class Mean(Protocol):
    """[B, T] log f and the mask to [B, T]."""

    @property
    def label(self) -> str: ...

    @property
    def per_sequence(self) -> bool:
        """Whether the tokens of a sequence get one weight."""
        ...

    def log_mean(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """log M at every token; carries the gradient."""
        ...

    def shares(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Detached."""
        ...


@dataclass(frozen=True)
class Arithmetic:
    label: str = "arithmetic"
    per_sequence: bool = False

    def log_mean(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return log_f_BT

    def shares(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return torch.ones_like(log_f_BT)


@dataclass(frozen=True)
class Geometric:
    label: str = "geometric"
    per_sequence: bool = True

    def log_mean(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return token_mean(log_f_BT, mask_BT).expand_as(log_f_BT)

    def shares(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return torch.ones_like(log_f_BT)


@dataclass(frozen=True)
class Power:
    """((1/T) Σ f^p)^(1/p), continuous in p at 0, where it is the geometric mean."""

    exponent: float
    label: str = "power p"
    per_sequence: bool = True

    def log_mean(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        if self.exponent == 0.0:
            return Geometric().log_mean(log_f_BT, mask_BT)
        fixed_BT = log_f_BT.detach()
        centre_B1 = token_mean(fixed_BT, mask_BT)
        powers_BT = self.exponent * (fixed_BT - centre_B1)
        value_B1 = centre_B1 + _log_mean_exp(powers_BT, mask_BT) / self.exponent
        # d log M / d log f_t = share_t/T: written out, since the two branches of the value would each need their own
        slope_B1 = token_mean(self.shares(fixed_BT, mask_BT) * (log_f_BT - fixed_BT), mask_BT)
        return (value_B1 + slope_B1).expand_as(log_f_BT)

    def shares(self, log_f_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """T·f^p / Σf^p."""
        powers_BT = torch.where(mask_BT, self.exponent * log_f_BT.detach(), -torch.inf)
        largest_B1 = powers_BT.amax(dim=1, keepdim=True).clamp(min=torch.finfo(log_f_BT.dtype).min)
        weights_BT = (powers_BT - largest_B1).exp()
        total_B1 = weights_BT.sum(dim=1, keepdim=True)
        return weights_BT * token_counts(mask_BT, log_f_BT.dtype) / torch.where(total_B1 > 0, total_B1, 1.0)


def _log_mean_exp(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """log mean exp(x) of centred x, [B, 1]: without cancellation where all x are small, without overflow elsewhere."""
    inside_BT = torch.where(mask_BT, x_BT, 0.0)
    small_B1 = torch.log1p(token_mean(torch.expm1(inside_BT.clamp(max=1.0)), mask_BT))
    largest_B1 = inside_BT.amax(dim=1, keepdim=True)
    large_B1 = largest_B1 + token_mean((inside_BT - largest_B1).exp(), mask_BT).clamp(min=1e-30).log()
    return torch.where(largest_B1 < 0.5, small_B1, large_B1)

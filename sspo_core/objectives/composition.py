"""The types of an objective's parts, and of the inputs and answers of its surrogate; `compositions.py` puts the parts
together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from sspo_core.config import AggregationName
from sspo_core.objectives.means import Arithmetic, Geometric, Mean
from sspo_core.objectives.ratios import LogRatios, RatioName
from sspo_core.objectives.trust_regions import Constant, TrustRegion, Unbounded


@dataclass(frozen=True)
class Signal:
    """Inputs of an objective on one micro-batch."""

    ratios: LogRatios
    ratio: Tensor
    """[B, T] log ratio at the composition's level."""
    advantages: Tensor
    """[B, T], detached, 0 outside the mask."""
    per_token: bool
    """Whether the tokens of a sequence came with advantages of their own."""
    log_partition: Tensor | None = None


@dataclass(frozen=True)
class Value:
    """Values per token, [B, T]; everything but `value` is detached."""

    value: Tensor
    """J_it."""
    weight: Tensor
    """M."""
    h: Tensor
    applied: Tensor
    """k/A, 0 where A is."""


Surrogate = Callable[["Composition", Signal], Value]


UNBOUNDED, ARITHMETIC, GEOMETRIC = Unbounded(), Arithmetic(), Geometric()


@dataclass(frozen=True)
class Composition:
    """An objective's parts."""

    ratio: RatioName = "token"
    region: TrustRegion = UNBOUNDED
    """On the ratio."""
    mean: Mean = ARITHMETIC
    bound: TrustRegion = UNBOUNDED
    """On the mean."""
    aggregation: AggregationName = "seq-mean-token-mean"
    norm_tokens: float = 1.0
    """L, by which N is divided once more."""
    surrogate: Surrogate = field(kw_only=True)
    folds_correction: bool = False
    """The ratio is against the policy that sampled: proximal/behaviour is part of it and not a weight of its own."""

    @property
    def corrects(self) -> bool:
        """Whether the objective weighs by a ratio at all."""
        return not isinstance(self.region, Constant)

    @property
    def correction_level(self) -> RatioName:
        """Level at which proximal/behaviour weighs: that of the ratio, the geometric mean where tokens share one."""
        if self.mean.per_sequence or self.ratio == "sequence_geometric_token":
            return "sequence_geometric"
        return "token" if self.folds_correction else self.ratio

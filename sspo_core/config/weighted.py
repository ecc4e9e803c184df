"""Objectives of the form Σ A·sg[w]·log π: the weight is detached, so that no token loses its gradient to a clip."""

from __future__ import annotations

from dataclasses import dataclass

from sspo_core.config.base import AggregatedConfig, AggregationName, check_number


@dataclass(frozen=True)
class ReinforceConfig(AggregatedConfig):
    """REINFORCE (Williams 1992) with the group's mean as the baseline. It corrects nothing off-policy by itself."""

    aggregation: AggregationName = "seq-mean-token-sum"
    """What the sum over tokens is divided by; the number of sequences is the plain gradient of the expected reward."""

    source = "Williams 1992"
    gradient_weight = "A"
    has_ratio = False
    advantage = "group_mean"


@dataclass(frozen=True)
class RLOOConfig(AggregatedConfig):
    """REINFORCE Leave-One-Out (arXiv 2402.14740): REINFORCE with the mean of the others as the baseline."""

    aggregation: AggregationName = "seq-mean-token-sum"
    """What the sum over tokens is divided by; the number of sequences is the plain gradient of the expected reward."""

    source = "arXiv 2402.14740"
    gradient_weight = "A"
    has_ratio = False
    advantage = "leave_one_out"


@dataclass(frozen=True)
class CISPOConfig(AggregatedConfig):
    """Clipped IS-weight Policy Optimization (arXiv 2506.13585): the weight is clip(r, 1 − clip_low, 1 + clip_high).

    The paper has no effective lower bound, which is `clip_low` 1, and does not print its upper one. Ours, 5, is that of
    ScaleRL (arXiv 2510.13786); TRL writes it as `epsilon_high` 5.0, verl as `clip_ratio_high` 4.0.
    """

    clip_low: float = 1.0
    """How far below 1 the weight may fall, in (0, 1]; 1 is no lower bound."""
    clip_high: float = 4.0
    """How far above 1 the weight may rise, above 0. Lower it where single tokens dominate."""

    source = "arXiv 2506.13585 (bound: arXiv 2510.13786)"
    gradient_weight = "A·clip(r)"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "clip_low", 0.0, 1.0, open_low=True)
        check_number(self, "clip_high", 0.0, 1e6, open_low=True)


@dataclass(frozen=True)
class VESPOConfig(AggregatedConfig):
    """VESPO (arXiv 2602.10693): the weight is φ(W) = W^power · exp(decay·(1 − W)) of the true sequence ratio W = Πr.

    W is against the policy that sampled: with proximal log-probs, proximal/behaviour goes into W and is not applied
    again. Both exponents at 0 leave REINFORCE; power 1 and decay 0 are exact importance sampling of sequences. The
    variance is bounded for a power of at least 1. Aggregation is that of the authors' code.
    """

    power_pos: float = 2.0
    """The paper's c1 (TRL's `vespo_k_pos`) where A > 0, in [0, 100]. 1 is exact importance sampling."""
    decay_pos: float = 3.0
    """The paper's c2 (TRL's `vespo_lambda_pos`) where A > 0, in [0, 100]. Raise it to weigh sequences less that the
    policy has come to like."""
    power_neg: float = 3.0
    """c1 where A ≤ 0, in [0, 100]. Raise it to leave sequences alone that the policy has given up already."""
    decay_neg: float = 2.0
    """c2 where A ≤ 0, in [0, 100]."""

    source = "arXiv 2602.10693"
    gradient_weight = "A·φ(W), φ = W^c₁·exp(c₂(1 − W))"
    advantage = "group_mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("power_pos", "decay_pos", "power_neg", "decay_neg"):
            check_number(self, name, 0.0, 100.0)

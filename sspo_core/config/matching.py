"""Objectives that fit the policy to a target distribution instead of raising the expected advantage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sspo_core.config.base import ObjectiveConfig, check_choice, check_number

Divergence = Literal["jensen_shannon", "reverse_kl"]
LADRatio = Literal["token", "sequence_geometric", "sequence_product"]


@dataclass(frozen=True)
class LADConfig(ObjectiveConfig):
    """Learning Advantage Distributions (arXiv 2602.20132): an f-divergence from the target π* ∝ π_old·exp(A/η).

    min E[e^u·f(W·e^−u)], u = A/η, with f(x) = ½[x log x − (x + 1) log((x + 1)/2)] (Jensen-Shannon) or −log x (reverse
    KL, whose weight is the constant e^u). On-policy k is ½ log((1 + e^u)/2) and not A: it can't fall below −½ log 2, so
    that likely answers are pushed down less. Known to us from two digests of the paper. Which ratio W is in its code we
    do not know; the derivation is for whole answers, which is `sequence_product`. u is clamped to ±20.
    """

    eta: float = 0.25
    """η, the target's temperature, in [0.001, 1000]; the paper has 1/η = 4 for mathematics. Lower it to follow the
    advantages more closely."""
    divergence: Divergence = "jensen_shannon"
    """Distance from the target. `reverse_kl` follows the largest advantages only."""
    ratio: LADRatio = "sequence_product"
    """The ratio W: of a token, or of the sequence as a geometric mean or as a product. A product of many tokens varies
    much; use another one for long answers."""

    source = "arXiv 2602.20132 (level of the ratio: not known)"
    gradient_weight = "½·W·log((1 + x)/(2x)), x = W·exp(−A/η); T_i times that for a product"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "eta", 1e-3, 1e3)
        check_choice(self, "divergence", Divergence)
        check_choice(self, "ratio", LADRatio)


@dataclass(frozen=True)
class FlowRLConfig(ObjectiveConfig):
    """FlowRL (arXiv 2509.15207): trajectory balance, w·(log Z + mean log π − β·A − mean log π_ref)², mean over tokens.

    log Z is a trained number per prompt: `flowrl.LogPartition`, state of the objective. w is the detached product
    ratio to the policy that sampled, cut to 1 ± `importance_clip` as in the paper; the public code computes the cut and
    then uses the product without it, which is None. β is the code's 15.
    """

    beta: float = 15.0
    """Weight β of the advantage in the residual. Raise it to follow the reward more closely."""
    importance_clip: float | None = 0.2
    """Half-width of the interval around 1 to which the weight w is cut, in (0, 1). null: not cut."""

    source = "arXiv 2509.15207, its code"
    gradient_weight = "−2·w·δ, δ the residual"
    needs = frozenset({"reference", "log_partition"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "beta", 0.0, 1e6)
        if self.importance_clip is not None:
            check_number(self, "importance_clip", 0.0, 1.0, open_low=True, open_high=True)

"""Objectives with a soft gate on the token ratio: SSPO, SAPO, and the power means between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sspo_core.config.base import ObjectiveConfig, check_choice, check_number

GateName = Literal[
    "sigmoid_raw",
    "sigmoid_norm",
    "sigmoid_shifted",
    "erf",
    "arctan",
    "softsign",
    "logarctan_a",
    "logarctan_b",
    "identity",
    "clip",
]
Sides = Literal["both", "outward"]

GATES_OFF_ONE: frozenset[GateName] = frozenset({"sigmoid_raw", "sigmoid_shifted"})
"""Gates with f(1) ≠ 1. Outward sides would make them jump at r = 1."""

TAU_RANGE = (1e-9, 1e9)
"""Beyond it, τ(r − 1) or its square leaves float32 at the clamp of the log ratio."""

MAX_SHIFT = 20.0
"""Largest |α(1 − c)| of `sigmoid_shifted`: its on-policy scale 1/f'(1) must stay a usable number."""


@dataclass(frozen=True)
class GatedConfig(ObjectiveConfig):
    """What SSPO and SAPO share: a soft gate f on the token ratio r = exp(z).

    With `sides="both"`, the published structure, the gate acts wherever r is. With "outward" it acts only where an
    update would push the policy further from the sampler (A·z > 0), as the clip of PPO does, and elsewhere log f = z.
    """

    gate: GateName = "logarctan_a"
    """The soft gate f on the token ratio; docs/gates.md compares them."""
    sides: Sides = "both"
    """Side on which the gate acts: on every ratio (`both`), or only if an update would push the ratio further out
    (`outward`)."""
    tau_pos: float = 3.0
    """Temperature τ of tokens with A > 0. A higher one closes the gate nearer to ratio 1: raise it against drift."""
    tau_neg: float = 3.5
    """Temperature τ of tokens with A ≤ 0; somewhat above `tau_pos`, since pushing down does more harm."""
    alpha: float = 4.0
    """Slope of `sigmoid_shifted`, f = σ(α(r − c)); no other gate reads it."""
    centre: float = 1.0
    """Centre c of `sigmoid_shifted`. With the default slope and centre f'(1) is 1 without a rescaling."""
    clip_log: float = 0.4
    """Bound of the gate `clip` on |log r|, one-sided by the sign of A; no other gate reads it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "gate", GateName)
        check_choice(self, "sides", Sides)
        check_number(self, "tau_pos", *TAU_RANGE)
        check_number(self, "tau_neg", *TAU_RANGE)
        check_number(self, "alpha", 1e-6, 1e6)
        check_number(self, "centre", -1e6, 1e6)
        check_number(self, "clip_log", 0.0, 20.0, open_low=True)
        if self.gate == "logarctan_b":
            for name in ("tau_pos", "tau_neg"):
                if getattr(self, name) <= math.pi / 2:
                    raise ValueError(f"{name}: the gate logarctan_b needs more than π/2, else f(0) ≤ 0")
        if self.gate == "sigmoid_shifted" and abs(self.alpha * (1.0 - self.centre)) > MAX_SHIFT:
            raise ValueError(f"centre: |alpha·(1 - centre)| must be at most {MAX_SHIFT:g}, else f'(1) vanishes")
        if self.sides == "outward" and self.gate in GATES_OFF_ONE:
            raise ValueError(f"sides: outward needs a gate with f(1) = 1, which {self.gate} is not")


@dataclass(frozen=True)
class SSPOConfig(GatedConfig):
    """Soft Sequence Policy Optimization (arXiv 2602.19327): geometric mean of soft-gated token ratios.

    The paper's default gate and temperatures are not known to us. Ours, logarctan_a with τ 3.0/3.5, are our own
    choice: f(1) = 1, so that the value of the objective means the same for every τ.
    """

    source = "arXiv 2602.19327 (gate and τ: our choice)"
    gradient_weight = "A·S·h(z), S = exp(mean log f)"


@dataclass(frozen=True)
class SAPOConfig(GatedConfig):
    """Soft Adaptive Policy Optimization (arXiv 2511.20347): arithmetic mean of soft-gated token ratios."""

    gate: GateName = "sigmoid_raw"
    """The soft gate f on the token ratio; the paper's is the sigmoid."""
    tau_pos: float = 1.0
    """Temperature τ of tokens with A > 0. Raise it against drift."""
    tau_neg: float = 1.05
    """Temperature τ of tokens with A ≤ 0; somewhat above `tau_pos`, since pushing down does more harm."""

    source = "arXiv 2511.20347"
    gradient_weight = "A·r·f'(r) = A·r·sech²(τ(r − 1)/2)"


@dataclass(frozen=True)
class PowerMeanConfig(GatedConfig):
    """Hölder Policy Optimisation (arXiv 2605.12058): ρ = ((1/T) Σ f(r)^p)^(1/p), clipped as PPO clips a ratio.

    p = 1 is GRPO's mean, p → 0 GMPO's and SSPO's, p = −1 the harmonic one; PMPO (arXiv 2601.22521) chooses p in [0, 1]
    for every sequence, which is not here. The paper anneals p linearly from 2 to −2 over a run; a config is fixed, so a
    trainer that anneals makes one per step. 1.0 is the default of its code, as is the clip. Its ratios are not gated,
    which is the gate `identity`; with another gate p leads from SAPO (1) to SSPO (0).
    """

    gate: GateName = "identity"
    """The gate f on the token ratio; the paper has none."""
    exponent: float = 1.0
    """p, in [-20, 20]: 1 is the arithmetic mean, 0 the geometric one, -1 the harmonic one. A lower one is led by the
    smallest ratios of a sequence."""
    clip_low: float = 0.2
    """How far below 1 the mean ρ may fall before the clip, in (0, 1)."""
    clip_high: float = 0.2
    """How far above 1 the mean ρ may rise before the clip, above 0."""

    source = "arXiv 2605.12058, its code"
    gradient_weight = "A·ρ·T·f^p/Σf^p·h where ρ is not clipped"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "exponent", -20.0, 20.0)
        check_number(self, "clip_low", 0.0, 1.0, open_low=True, open_high=True)
        check_number(self, "clip_high", 0.0, 1e6, open_low=True)

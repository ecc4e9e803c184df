"""What can be said about an objective: frozen dataclasses, and `OBJECTIVES`, the one list of their names.

Standard library only, so that a service can validate a request without loading torch. Every config is checked when it
is made: a ValueError starts with the name of the field at fault. Defaults are those of each objective's paper, except
where a docstring says that they are our own choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

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
AggregationName = Literal["seq-mean-token-mean", "token-mean"]
AdvantageKind = Literal["group_std", "group_mean", "leave_one_out"]

GATES_OFF_ONE: frozenset[GateName] = frozenset({"sigmoid_raw", "sigmoid_shifted"})
"""Gates with f(1) ≠ 1. Outward sides would make them jump at r = 1."""

TAU_RANGE = (1e-9, 1e9)
"""Beyond it, τ(r − 1) or its square leaves float32 at the clamp of the log ratio."""

MAX_SHIFT = 20.0
"""Largest |α(1 − c)| of `sigmoid_shifted`: its on-policy scale 1/f'(1) must stay a usable number."""


def _number(
    config: Any, name: str, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: must be a finite number, got {value!r}")
    if value < low or value > high or (open_low and value == low) or (open_high and value == high):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{name}: must lie in {interval}, got {value!r}")


def _choice(config: Any, name: str, literal: Any) -> None:
    value, known = getattr(config, name), get_args(literal)
    if value not in known:
        raise ValueError(f"{name}: must be one of {', '.join(known)}; got {value!r}")


@dataclass(frozen=True)
class GatedConfig:
    """What SSPO and SAPO share: a soft gate f on the token ratio r = exp(z).

    With `sides="both"`, the published structure, the gate acts wherever r is. With "outward" it acts only where an
    update would push the policy further from the sampler (A·z > 0), as the clip of PPO does, and elsewhere log f = z.
    """

    gate: GateName = "logarctan_a"
    sides: Sides = "both"
    tau_pos: float = 3.0
    """Temperature τ of tokens with A > 0."""
    tau_neg: float = 3.5
    """Temperature τ of tokens with A ≤ 0."""
    alpha: float = 4.0
    """Slope of `sigmoid_shifted`, f = σ(α(r − c)); no other gate reads it."""
    centre: float = 1.0
    """Centre c of `sigmoid_shifted`. With the default slope and centre f'(1) is 1 without a rescaling."""
    clip_log: float = 0.4
    """Bound of the gate `clip` on |log r|, one-sided by the sign of A; no other gate reads it."""
    kl_coefficient: float = 0.0
    """Weight of k3(policy ‖ reference); above 0 the loss needs reference log-probs."""

    def __post_init__(self) -> None:
        _choice(self, "gate", GateName)
        _choice(self, "sides", Sides)
        _number(self, "tau_pos", *TAU_RANGE)
        _number(self, "tau_neg", *TAU_RANGE)
        _number(self, "alpha", 1e-6, 1e6)
        _number(self, "centre", -1e6, 1e6)
        _number(self, "clip_log", 0.0, 20.0, open_low=True)
        _number(self, "kl_coefficient", 0.0, 1e6)
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


@dataclass(frozen=True)
class SAPOConfig(GatedConfig):
    """Soft Adaptive Policy Optimization (arXiv 2511.20347): arithmetic mean of soft-gated token ratios."""

    gate: GateName = "sigmoid_raw"
    tau_pos: float = 1.0
    tau_neg: float = 1.05


@dataclass(frozen=True)
class RatioClipConfig:
    """A one-sided clip on the ratio, as in PPO: min(r·A, clip(r, 1 − clip_low, 1 + clip_high)·A)."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coefficient: float = 0.0
    """Weight of k3(policy ‖ reference); above 0 the loss needs reference log-probs."""

    def __post_init__(self) -> None:
        _number(self, "clip_low", 0.0, 1.0, open_low=True, open_high=True)
        _number(self, "clip_high", 0.0, 1e6, open_low=True)
        _number(self, "kl_coefficient", 0.0, 1e6)


@dataclass(frozen=True)
class GRPOConfig(RatioClipConfig):
    """Group Relative Policy Optimization (arXiv 2402.03300): clipped token ratios.

    The paper's KL weight is 0.04; ours is 0, as in today's libraries.
    """

    aggregation: AggregationName = "seq-mean-token-mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        _choice(self, "aggregation", AggregationName)


@dataclass(frozen=True)
class GSPOConfig(RatioClipConfig):
    """Group Sequence Policy Optimization (arXiv 2507.18071): the clip on the length-normalised sequence ratio."""

    clip_low: float = 3e-4
    clip_high: float = 4e-4


@dataclass(frozen=True)
class GMPOConfig:
    """Geometric-Mean Policy Optimization (arXiv 2507.20673): log ratios clipped one-sidedly, then averaged."""

    clip_log_low: float = 0.4
    """Lower bound on log r, as a positive number; applies where A < 0."""
    clip_log_high: float = 0.4
    """Upper bound on log r; applies where A > 0."""
    kl_coefficient: float = 0.0
    """Weight of k3(policy ‖ reference); above 0 the loss needs reference log-probs."""

    def __post_init__(self) -> None:
        _number(self, "clip_log_low", 0.0, 20.0, open_low=True)
        _number(self, "clip_log_high", 0.0, 20.0, open_low=True)
        _number(self, "kl_coefficient", 0.0, 1e6)


ObjectiveConfig = SSPOConfig | GRPOConfig | SAPOConfig | GMPOConfig | GSPOConfig

OBJECTIVES: dict[str, type[Any]] = {
    "sspo": SSPOConfig,
    "grpo": GRPOConfig,
    "sapo": SAPOConfig,
    "gmpo": GMPOConfig,
    "gspo": GSPOConfig,
}
"""Objective name → its config class, one of `ObjectiveConfig`; typed so that it can be called with keywords."""

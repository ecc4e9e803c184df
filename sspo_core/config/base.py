"""The base of every objective's config, and the checks that configs share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

AggregationName = Literal["seq-mean-token-mean", "token-mean", "seq-mean-token-sum", "sum-norm"]
AdvantageKind = Literal["group_std", "group_mean", "leave_one_out", "batch_whitened"]
KLEstimator = Literal["k1", "k2", "k3"]
ClipSides = Literal["one", "two"]

Need = Literal["reference", "log_partition", "turn_ids", "clipping_bias"]
"""What an objective may ask of the trainer: log-probs of a reference policy, a trained log Z of every prompt, the turn
of every token, and gradients divided by the norm of the clipping bias (`sorl.py`)."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """An objective; every one can carry a penalty that holds the policy to a reference."""

    kl_coefficient: float = 0.0
    """Weight of a penalty that holds the policy to a reference; above 0 the loss needs the reference's log-probs. Raise
    it where the policy must not go far from the model that it started from."""
    kl_estimator: KLEstimator = "k3"
    """The penalty's estimator of KL(policy ‖ reference), per token with d = reference − policy: k1 = −d, k2 = d²/2,
    k3 = exp(d) − d − 1. As a loss only k2 has the gradient of the KL; k1's is 0 on average, k3's is that of the
    reversed KL."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    has_ratio: ClassVar[bool] = True
    """Whether it weighs by an importance ratio of its own."""
    shares_ratio: ClassVar[bool] = False
    """Whether tokens get the gradient of their ratio from all tokens of their turn or sequence."""
    advantage: ClassVar[AdvantageKind] = "group_std"
    source: ClassVar[str]
    gradient_weight: ClassVar[str]
    """k in ∇J = Σ N·k·∇log π, as text; N is the aggregation's factor."""

    def __post_init__(self) -> None:
        check_number(self, "kl_coefficient", 0.0, 1e6)
        check_choice(self, "kl_estimator", KLEstimator)


@dataclass(frozen=True)
class AggregatedConfig(ObjectiveConfig):
    """An objective that is a sum over tokens, and leaves open what the sum is divided by."""

    aggregation: AggregationName = "token-mean"
    """Divisor of the sum over tokens: each sequence's length and their number, all tokens, the number of sequences, or
    a constant. Change it where long and short answers should weigh differently."""
    norm_tokens: int = 3000
    """L of sum-norm, Σ/(B·L); no other aggregation reads it. 3000 is the generation limit of Dr. GRPO's runs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "aggregation", AggregationName)
        check_number(self, "norm_tokens", 1, 2**31)


def check_number(
    config: object, name: str, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Raises ValueError unless the field is a finite number in the interval."""
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: must be a finite number, got {value!r}")
    if value < low or value > high or (open_low and value == low) or (open_high and value == high):
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(f"{name}: must lie in {interval}, got {value!r}")


def check_choice(config: object, name: str, literal: object) -> None:
    """Raises ValueError unless the field is one of the literal's values."""
    value, known = getattr(config, name), get_args(literal)
    if value not in known:
        raise ValueError(f"{name}: must be one of {', '.join(known)}; got {value!r}")

"""Objectives with a clip on the ratio."""

from __future__ import annotations

from dataclasses import dataclass

from sspo_core.config.base import (
    AggregatedConfig,
    AggregationName,
    ClipSides,
    ObjectiveConfig,
    check_choice,
    check_number,
)


@dataclass(frozen=True)
class RatioClipConfig(ObjectiveConfig):
    """A clip on the ratio, as in PPO: min(r·A, clip(r, 1 − clip_low, 1 + clip_high)·A)."""

    clip_low: float = 0.2
    """How far below 1 the ratio may fall before the clip, in (0, 1). Lower it against drift."""
    clip_high: float = 0.2
    """How far above 1 the ratio may rise before the clip, above 0. Raise it to let unlikely tokens gain more."""
    clip_sides: ClipSides = "one"
    """One-sided: only where an update would push the ratio further out, which is PPO's min. Two-sided: wherever."""
    dual_clip: float | None = None
    """Bound c > 1 on the ratio where A < 0 (arXiv 1912.09729; verl has 3.0, TRL calls it `delta`). null: no bound."""

    gradient_weight = "A·r where r is not clipped"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "clip_low", 0.0, 1.0, open_low=True, open_high=True)
        check_number(self, "clip_high", 0.0, 1e6, open_low=True)
        check_choice(self, "clip_sides", ClipSides)
        if self.dual_clip is not None:
            check_number(self, "dual_clip", 1.0, 1e6, open_low=True)


@dataclass(frozen=True)
class PPOConfig(RatioClipConfig, AggregatedConfig):
    """Proximal Policy Optimization (arXiv 1707.06347) on tokens. Its advantages are a critic's: give them as [B, T].

    Without a critic, whitened rewards are the nearest thing.
    """

    source = "arXiv 1707.06347"
    advantage = "batch_whitened"


@dataclass(frozen=True)
class GRPOConfig(RatioClipConfig, AggregatedConfig):
    """Group Relative Policy Optimization (arXiv 2402.03300): clipped token ratios.

    The paper's KL weight is 0.04; ours is 0, as in today's libraries.
    """

    aggregation: AggregationName = "seq-mean-token-mean"
    """Divisor of the sum over tokens; the paper divides by each sequence's length and their number."""

    source = "arXiv 2402.03300 (KL weight: 0)"


@dataclass(frozen=True)
class DrGRPOConfig(RatioClipConfig, AggregatedConfig):
    """GRPO Done Right (arXiv 2503.20783): no division by the sequence's length, nor by the std of the rewards.

    L, `norm_tokens`, is a constant: the limit of the generation length.
    """

    aggregation: AggregationName = "sum-norm"
    """Divisor of the sum over tokens; the paper divides by a constant."""

    source = "arXiv 2503.20783"
    advantage = "group_mean"


@dataclass(frozen=True)
class DAPOConfig(RatioClipConfig, AggregatedConfig):
    """DAPO (arXiv 2503.14476): clip-higher, and a mean over all tokens.

    Its other two parts are `advantages.informative` (dynamic sampling) and `shaping.overlong_penalty`.
    """

    clip_high: float = 0.28
    """How far above 1 the ratio may rise before the clip: further than below it, which keeps entropy up."""

    source = "arXiv 2503.14476"


@dataclass(frozen=True)
class ReinforcePPConfig(RatioClipConfig, AggregatedConfig):
    """REINFORCE++ (arXiv 2501.03262): PPO's clip without a critic, on advantages whitened over the batch."""

    source = "arXiv 2501.03262"
    advantage = "batch_whitened"


@dataclass(frozen=True)
class GSPOConfig(RatioClipConfig):
    """Group Sequence Policy Optimization (arXiv 2507.18071): the clip on the length-normalised sequence ratio."""

    clip_low: float = 3e-4
    """How far below 1 the sequence's ratio may fall before the clip: small, since it is a mean over tokens."""
    clip_high: float = 4e-4
    """How far above 1 the sequence's ratio may rise before the clip."""

    shares_ratio = True
    source = "arXiv 2507.18071"
    gradient_weight = "A·s where s is not clipped"


@dataclass(frozen=True)
class GSPOTokenConfig(GSPOConfig):
    """GSPO-token (arXiv 2507.18071): GSPO for an advantage per token, each of which keeps to its own token."""

    source = "arXiv 2507.18071 (its token variant)"
    shares_ratio = False


@dataclass(frozen=True)
class SORLConfig(RatioClipConfig):
    """SORL, at first ST-PPO (arXiv 2511.20718): the clip on the ratio of a turn, for answers of several turns.

    The ratio of a turn is the geometric mean of its tokens' (Lemma 4.1; one digest of the paper says arithmetic). The
    paper then divides the gradient by the norm of the clipping bias C, the part of the off-policy gradient that the
    clip takes away. That needs C's gradient over the parameters, so the trainer does it: `sspo_core.objectives.sorl`.
    Without it this is the paper's Turn-PPO. What sets off the normalisation in the second version
    ("clipping-triggered") we do not know. PPO's advantages are a critic's per token, SO-GRPO's are the group's.
    """

    source = "arXiv 2511.20718 (trigger of the normalisation: not known)"
    gradient_weight = "A·w where the turn's ratio w is not clipped"
    needs = frozenset({"turn_ids", "clipping_bias"})
    shares_ratio = True


@dataclass(frozen=True)
class GMPOConfig(ObjectiveConfig):
    """Geometric-Mean Policy Optimization (arXiv 2507.20673): log ratios clipped one-sidedly, then averaged."""

    clip_log_low: float = 0.4
    """Lower bound on log r, as a positive number in (0, 20]; applies where A < 0. Lower it against drift."""
    clip_log_high: float = 0.4
    """Upper bound on log r, in (0, 20]; applies where A > 0. Raise it to let unlikely tokens gain more."""

    source = "arXiv 2507.20673"
    gradient_weight = "A·S where log r is not clipped"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "clip_log_low", 0.0, 20.0, open_low=True)
        check_number(self, "clip_log_high", 0.0, 20.0, open_low=True)

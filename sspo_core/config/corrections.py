"""Corrections for the distance between the policy that sampled and the one at the start of the update.

They go with any objective and are off unless asked for: without proximal log-probs there is nothing to weigh, and
rejection has no bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sspo_core.config.base import check_choice, check_number

ImportanceWeight = Literal["full", "truncated", "masked"]
CorrectionLevel = Literal["objective", "token", "sequence_product", "sequence_geometric"]


@dataclass(frozen=True)
class CorrectionConfig:
    """What becomes of w = proximal/behaviour, by which an objective's ratio policy/proximal is weighted.

        full        w, decoupled PPO (arXiv 2505.24298)
        truncated   w cut to [low, high], TIS
        masked      w where it lies in [low, high], else 0, MIS (IcePop)

    Objectives without a ratio of their own (reinforce, rloo) take w = policy/behaviour where no proximal log-probs are
    given; for the others that would be to correct twice, and is refused.
    """

    importance: ImportanceWeight = "full"
    """Treatment of w: `full` leaves it, `truncated` cuts it to its bounds, `masked` drops tokens outside them. Use one
    of the latter two if a few tokens have very large weights."""
    level: CorrectionLevel = "objective"
    """Of w: "objective" is the level of the objective's own ratio, by the geometric mean where tokens share one. Under
    "token" a weight scales its own token's gradient, also within a mean over the sequence (the loss's value is then
    that of advantages per token); tokens that share a ratio, as GSPO's, are refused."""
    low: float = 0.0
    """Lower bound of w; `full` does not read it. Raise it to keep tokens that the policy has all but given up."""
    high: float = 2.0
    """Upper bound of w; `full` does not read it. 2.0 is verl's, TRL has 3.0. Lower it where single weights dominate."""
    rejection_low: float | None = None
    """Lower bound on the same mean as `rejection_high`. null: none."""
    rejection_high: float | None = None
    """Upper bound on the geometric mean of w over a sequence (of policy/behaviour without proximal log-probs). A
    sequence outside the bounds is not trained; it keeps its place in the denominators, so that the others gain no
    weight by it. null: none."""

    def __post_init__(self) -> None:
        check_choice(self, "importance", ImportanceWeight)
        check_choice(self, "level", CorrectionLevel)
        check_number(self, "low", 0.0, 1e6)
        check_number(self, "high", self.low, 1e6, open_low=True)
        if self.rejection_low is not None:
            check_number(self, "rejection_low", 0.0, 1e6)
        if self.rejection_high is not None:
            check_number(self, "rejection_high", self.rejection_low or 0.0, 1e6, open_low=True)

    @property
    def rejects(self) -> bool:
        return self.rejection_low is not None or self.rejection_high is not None

"""Single completions to look at, and the gate that their tokens went through."""

from __future__ import annotations

from services.records.record import Record


class SampledTrajectory(Record):
    """One completion of a group; the lists have an entry for each of its tokens that is kept, the first ones."""

    reward: float
    """Reward from the grader."""
    advantage: float | None = None
    """Advantage within its group; None in a record of an older version."""
    tokens: tuple[str, ...]
    """As text."""
    log_ratios: tuple[float, ...]
    """policy − behaviour log-prob."""
    weights: tuple[float, ...]
    """By how much the token's gradient differs from REINFORCE."""
    versions: tuple[int, ...]
    """Weights that sampled the token."""


class SampledGroup(Record):
    """One group, as the learner trained it."""

    step: int
    """The step that trained it."""
    group_number: int
    """Its number in the ledger."""
    prompt: str
    """As text, special tokens included."""
    trajectories: tuple[SampledTrajectory, ...]
    """Its completions."""


class GateCurve(Record):
    """Weight of a token's gradient over its log ratio, for either sign of the advantage."""

    objective: str
    """Name of the job's objective."""
    log_ratio: tuple[float, ...]
    """Where the curves are given, ascending."""
    positive: tuple[float, ...] = ()
    """Under a positive advantage; empty for an objective without a weight."""
    negative: tuple[float, ...] = ()
    """Under a negative advantage."""
    quantity: str = "weight of a token's gradient against REINFORCE"
    """What the curves show."""

"""Records of a job besides its steps: evaluations and checkpoints."""

from __future__ import annotations

from services.records.record import Record


class EvaluationRecord(Record):
    """One evaluation on the validation file."""

    step: int
    """Steps trained before it."""
    reward_mean: float | None = None
    """Over the rows that were graded; None when none was."""
    graded: int = 0
    """Rows with a reward."""
    failed: int = 0
    """Rows that ended in a typed failure."""
    missing: int = 0
    """Rows without an answer by the deadline."""
    policy_versions: tuple[int, ...] = ()
    """Weights that the answers were sampled with."""
    seconds: float | None = None
    """From the first prompt to the last answer."""


class CheckpointRecord(Record):
    """A checkpoint that is on disk."""

    step: int
    """Steps trained."""
    path: str
    """Its folder."""
    created_at: int
    """When it became durable, in seconds since the epoch."""
    train_mean_reward: float | None = None
    """Mean reward of the step before."""

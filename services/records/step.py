"""The record of one step, as the learner writes it.

Training a batch gives `StepFigures`; `StepRecord` adds the circumstances of the step. A figure that an older version
didn't write is None, and a part that it didn't write is empty.
"""

from __future__ import annotations

from services.job.guard import GuardAction
from services.records.drift import DriftFigures
from services.records.record import Record


class OfStep(Record):
    """Base of records that belong to one step. The number leads each line on disk, so nobody has to parse a line to
    find it."""

    step: int
    """Its number, from 0; it is done when this is said."""


class StepFigures(Record):
    """Figures that training a batch gave."""

    reward_mean: float | None = None
    """Mean reward of the batch's trajectories."""
    reward_std: float | None = None
    """Their standard deviation."""
    reward_zero_variance_groups_ratio: float | None = None
    """Share of groups whose rewards are all equal: no gradient comes of them."""
    loss: float | None = None
    """Mean over the updates that were applied; None when none was."""
    grad_norm: float | None = None
    """Gradient norm before clipping, mean over the updates that were applied."""
    learning_rate: float | None = None
    """Of the last update."""
    updates: int | None = None
    """Optimiser updates of the step."""
    skipped_updates_total: int | None = None
    """Updates skipped so far in the job for a loss or gradient that was not finite."""
    tokens: int | None = None
    """Completion tokens that were trained."""
    completion_tokens_mean: float | None = None
    """Tokens a completion."""
    staleness_mean: float | None = None
    """Steps between sampling and training, mean over trajectories."""
    weights_lag_mean: float | None = None
    """Steps by which sampled weights were behind those published when their groups were issued, mean."""
    staleness_max: int | None = None
    """Steps between sampling and training, largest."""
    drift: DriftFigures = DriftFigures()
    """Importance ratios; empty where nothing was said of them."""


class StepWaits(Record):
    """Seconds in which the learner did not train."""

    batch: float | None = None
    """For groups."""
    staleness: float | None = None
    """With a whole batch at hand, for groups that this step would have made too stale."""
    publish: float | None = None
    """For the weights to be published."""
    checkpoint: float | None = None
    """For the checkpoint before this step."""


class GuardView(Record):
    """The guard's view of a step."""

    level: int = 0
    """Rungs climbed in this alarm; 0: all is well."""
    actions: tuple[GuardAction, ...] = ()
    """What it did after this step."""
    reasons: tuple[str, ...] = ()
    """The figures beyond their limits, in words."""
    learning_rate_factor: float = 1.0
    """The factor on the learning rate so far."""


class StepRecord(StepFigures, OfStep):
    """One step. (Fields of the last base are written first.)"""

    time: float | None = None
    """When its batch was committed, in seconds since the epoch."""
    replayed: bool | None = None
    """Trained again from the journal after a restart."""
    groups: int | None = None
    """Groups of its batch."""
    wait_seconds: float | None = None
    """From the end of the step before to a whole batch."""
    seconds: float | None = None
    """From a whole batch to this record."""
    waits: StepWaits = StepWaits()
    """The waits of the step; empty for a replay."""
    epoch: int | None = None
    """Of the learner that trained it."""
    policy_version: int | None = None
    """Newest weights when this was said."""
    guard: GuardView = GuardView()
    """The guard's view; level 0 if it said nothing."""

"""The waits of a job: a closed list of keys, and words for people.

No imports beyond the standard library, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class WaitKey(StrEnum):
    """The kind of wait. It stays the same while a wait goes on; the words may change."""

    VALIDATION = "validation"
    CONTROLLER = "controller"
    ANOTHER_JOB = "another_job"
    RESUME = "resume"
    DRAIN = "drain"
    FIRST_STEP = "first_step"
    LEARNER_START = "learner_start"
    LEARNER_LOAD = "learner_load"
    LEARNER_REPLAY = "learner_replay"
    LEARNER = "learner"
    """A phase of the learner that this version doesn't know."""
    TRAINING = "training"
    PUBLISHING = "publishing"
    CHECKPOINT = "checkpoint"
    EXPORT = "export"
    EVALUATION = "evaluation"
    END = "end"
    ROLLOUT_REPLICAS = "rollout_replicas"
    """A person: none are wanted."""
    REWARD_REPLICAS = "reward_replicas"
    ROLLOUT_WORKERS = "rollout_workers"
    REWARD_WORKERS = "reward_workers"
    BATCH = "batch"


@dataclass(frozen=True)
class Wait:
    """One wait: a job goes on to another when `key` or `step` changes. Its `words` are for people."""

    key: WaitKey
    words: str
    step: int | None = None
    """The step that is waited for, where each step is a wait of its own."""

"""How many groups may be issued now: pure arithmetic over steps and bytes, and nothing else paces the rollout workers.

Queues are bounded by issuing less, never by trimming: what was issued is trained or dropped for a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.job.spec import LearnerSpec, RolloutSpec

TOKEN_BYTES = 9
"""Of a completion token in a group: id and log-prob of 4 bytes, mask of 1."""


@dataclass(frozen=True)
class Queued:
    """Content of the training streams."""

    bytes: int = 0
    """Payloads in prompts, trajectories and scored."""
    unsampled: int = 0
    """Groups whose completions are still to come: those in `prompts`, the ones being sampled among them."""
    group_bytes: float = 0.0
    """Expected bytes of a sampled group; 0: unknown, nothing is bounded by it then."""

    @property
    def expected_bytes(self) -> float:
        """Bytes when everything in flight is sampled."""
        return self.bytes + self.unsampled * self.group_bytes


class Limit(StrEnum):
    """The bounds on the number of groups that may be issued."""

    STEPS = "steps"
    """The remaining steps need no more."""
    WEIGHTS = "weights"
    """A synchronous job waits for the weights of the step."""
    STALENESS = "staleness"
    """More would be trained too late."""
    BYTES = "bytes"
    """More would take more memory than may wait."""


@dataclass(frozen=True)
class Capacity:
    """Number of groups that may be issued now, at least 0, and the bound that gives it (the first of equal bounds)."""

    groups: int
    limited_by: Limit

    def is_full(self, limit: Limit) -> bool:
        """Whether this bound leaves no room, while all bounds before it leave some."""
        return self.groups == 0 and self.limited_by is limit


def capacity(
    learner: LearnerSpec,
    *,
    next_step: int,
    published_step: int,
    trained: int,
    in_flight: int,
    queued: Queued = Queued(),
) -> Capacity:
    """How many groups may be issued.

    There are three bounds. The first is the need of the remaining steps, so a job that ends leaves nothing behind. The
    second is the staleness window: a group issued now is sampled with the weights published now or newer ones, and if
    groups are trained oldest first, it is trained at most `max_staleness` steps later. The third are the bytes queued,
    see `bytes_room`. A synchronous job issues a batch only once the weights of the step are published, and nothing
    beyond it.
    """
    needed = learner.steps * learner.batch_size - trained - in_flight
    if learner.synchronous and published_step < next_step:
        return Capacity(0, Limit.WEIGHTS)
    ahead = 0 if learner.synchronous else learner.max_staleness
    window = (published_step + 1 + ahead) * learner.batch_size - trained - in_flight
    bounds = {Limit.STEPS: needed, Limit.STALENESS: window, Limit.BYTES: bytes_room(learner, queued, in_flight)}
    limit = min(bounds, key=lambda name: bounds[name] if bounds[name] > 0 else 0)
    return Capacity(max(0, bounds[limit]), limit)


def paced(learner: LearnerSpec, staleness_window: int | None) -> LearnerSpec:
    """The settings with the staleness window that the learner asks for; None: as the job says."""
    if staleness_window is None:
        return learner
    return learner.model_copy(update={"max_staleness": min(learner.max_staleness, staleness_window)})


def bytes_room(learner: LearnerSpec, queued: Queued, in_flight: int) -> int:
    """Groups for which there is room below `max_queued_bytes`.

    One batch may always be in flight, even if it is larger than the budget. The learner trains nothing less, so a job
    with too small a budget goes on step by step and does not stand still. The bound rests on expected sizes: groups
    that turn out larger exceed it by the difference.
    """
    if queued.group_bytes <= 0:
        return learner.steps * learner.batch_size
    free = learner.max_queued_bytes - queued.expected_bytes
    return max(0, learner.batch_size - in_flight, int(free // queued.group_bytes))


def largest_group_bytes(rollout: RolloutSpec) -> int:
    """A group whose completions all have `max_tokens`, without its prompt: what to expect before one was sampled."""
    return rollout.group_size * rollout.max_tokens * TOKEN_BYTES

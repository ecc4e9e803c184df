"""`GET /v1/x/jobs/{id}`: where a job is, and what it waits for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from services.api.schemas.base import AnswerModel, Named
from services.api.schemas.jobs import JobFailure
from services.api.schemas.said import Said
from services.job.spec import JobSpec
from services.records.drift import DriftFigures
from services.records.worker import WorkerKind, WorkerRecord, WorkerState
from services.store.job.record import WaitingFor
from services.store.job.transitions import Status
from services.store.job.waits import WaitKey
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.stream_stats import StreamStats


class Waiting(AnswerModel):
    """What a job waits for."""

    what: str
    """In words."""
    since: float
    """From when on, in seconds since the epoch."""
    key: WaitKey | None = None
    """The same as `what` for programs; null of a record that an older version wrote."""
    step: int | None = None
    """The step that is waited for, where each step is a wait of its own."""

    @classmethod
    def of(cls, waiting: WaitingFor | None) -> Waiting | None:
        """Of what the store has."""
        return None if waiting is None else cls(**waiting.model_dump())


class LedgerView(AnswerModel):
    """Where every group of a job is. The unit is the group."""

    issued: int
    """Given a number so far."""
    trained: int
    """Trained."""
    dropped: dict[str, int]
    """Dropped, by reason."""
    in_flight: int
    """Found in the streams."""
    in_streams: dict[str, int]
    """The same by stream."""
    missing: int
    """Neither finished nor found."""
    balanced: bool
    """Whether every group that was issued is finished or found."""

    @classmethod
    def of(cls, ledger: LedgerSnapshot) -> LedgerView:
        """Of one look at the ledger."""
        counts = dataclasses.asdict(ledger) | {"missing": len(ledger.missing)}
        return cls(**counts, balanced=ledger.balanced)


class StreamView(AnswerModel):
    """What one stream holds. The unit is the entry: a group, or a dead letter."""

    entries: int
    """Entries in it."""
    bytes: int
    """Bytes of their payloads."""
    oldest_seconds: float
    """Age of its oldest entry, counted from its coming into this stream; 0 when the stream is empty."""
    pending: int
    """Entries that a worker holds."""


class WorkerView(AnswerModel):
    """A worker as it says of itself."""

    id: str
    """Used once: it names one incarnation."""
    kind: WorkerKind
    """What it does."""
    state: WorkerState
    """Whether it works."""
    policy_version: int
    """Newest weights it has proven to run; 0 before."""
    node: str
    """Name of its machine."""
    pid: int
    """Its process there."""
    heartbeat: float
    """When it said this, in seconds since the epoch."""

    @classmethod
    def of(cls, worker: WorkerRecord) -> WorkerView:
        """Of a record in the store. Its `detail` stays inside: it is for other processes."""
        return cls(**worker.model_dump(exclude={"detail"}))


class Desired(AnswerModel):
    """Workers that a job wants."""

    rollout_workers: int
    """Rollout workers."""
    reward_workers: int
    """Reward workers."""


class JobView(Named):
    """Where a job is, and what it waits for. Times are seconds since the epoch."""

    object: Literal["x.job"] = "x.job"
    """Always `x.job`."""
    status: Status
    """Where it is in its life."""
    created_at: int
    """When it was accepted."""
    finished_at: int | None
    """When it ended; null before."""
    stage: str
    """What is being done for it now."""
    waiting_for: Waiting | None
    """What it waits for; null for a job that is final."""
    error: JobFailure | None
    """Why it failed; null otherwise."""
    step: int
    """The step that is assembled or trained next; all below are committed."""
    policy_version: int
    """Newest published weights; 0 before."""
    phase: str
    """What the learner does; "" before there is one."""
    ledger: LedgerView
    """Where every group is."""
    streams: dict[str, StreamView]
    """What each stream holds."""
    wasted_tokens: dict[str, int]
    """Completion tokens that were sampled and not trained, by reason."""
    desired: Desired
    """Workers that are wanted."""
    workers: list[WorkerView]
    """Workers that there are."""
    drift: Said[DriftFigures] | None
    """How far policy and samples were apart in the newest step; null before the first."""
    spec: JobSpec
    """What workers know of the job: every default filled in."""


def streams_of(stats: Mapping[str, StreamStats]) -> dict[str, StreamView]:
    """Stream → what it holds."""
    return {name: StreamView(**dataclasses.asdict(stream)) for name, stream in stats.items()}

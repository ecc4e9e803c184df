"""The record that a worker writes about once a second."""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

from services.records.record import Record

WorkerKind = Literal["rollout", "reward", "learner"]
WORKER_KINDS: tuple[WorkerKind, ...] = get_args(WorkerKind)
ScaledKind = Literal["rollout", "reward"]
"""Kinds of which a person says how many there are."""
SCALED_KINDS: tuple[ScaledKind, ...] = get_args(ScaledKind)
WorkerState = Literal["starting", "syncing", "ready", "draining", "failed"]
WORKER_STATES: tuple[WorkerState, ...] = get_args(WorkerState)


class LearnerOutcome(TypedDict):
    """What a learner's `run` answers: plain values, so that a controller of another version can read it."""

    outcome: str
    """How the training ended: "failed", "fenced", or what the loop says."""
    code: str
    """For programs; "" where nothing went wrong."""
    message: str
    """In words; "" where nothing went wrong."""


class WorkerDetail(Record):
    """Details of a worker for other processes, and those that its kind adds."""

    metrics_address: str = ""
    """HOST:PORT of its metrics page; "" where there is none."""
    phase: str = ""
    """Of a learner: what it does."""
    engine_pid: int | None = None
    """Of a rollout worker: its engine's process."""
    groups_in_flight: int | None = None
    """Of a rollout worker: groups it samples now."""
    tokens_total: int | None = None
    """Of a rollout worker: completion tokens sampled so far."""


class WorkerRecord(Record):
    """One worker; a `heartbeat` that no longer moves is for the reader to judge."""

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
    detail: WorkerDetail = WorkerDetail()
    """For other processes; not shown to users."""

    @property
    def up(self) -> bool:
        """Whether it works: one that is loading newer weights does, and comes back by itself."""
        return self.state in ("ready", "syncing")

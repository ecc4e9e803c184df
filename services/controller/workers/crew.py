"""The workers a job should have: starts what is missing, drains what is too much, replaces the dead and the silent.

`Fleet` knows actors. This module knows what they mean for the job: it ends the leases of a worker that is gone, keeps
the registry, and counts deaths. A reason to fail the job comes back as a `JobError`.
"""

from __future__ import annotations

import time
from typing import Any

import structlog

from services.controller.workers.fleet import Ended, Fleet, Member
from services.controller.workers.supervision import MAX_DEATHS, Supervision
from services.job.spec import JobSpec
from services.records.worker import WORKER_KINDS, WorkerKind, WorkerRecord
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.record import JobError
from services.store.job.registry import Registry
from services.trajectories import streams
from services.trajectories.progress import Progress
from services.trajectories.tallies import RESTARTS, Tallies

log = structlog.get_logger()

HEARTBEAT_TIMEOUT_SECONDS = 120.0
"""Silence after which a worker that once reported is taken for hung and replaced."""
STARTUP_TIMEOUT_SECONDS = 600.0
DRAIN_GRACE_SECONDS = 10.0
ADOPT_SECONDS = 20.0
"""Period of looking for workers that a controller without its lease started."""


class Crew:
    """All workers of one job."""

    def __init__(self, spec: JobSpec, client: Client) -> None:
        self._id = spec.job_id
        self._drain_seconds = spec.rollout.drain_seconds
        self._client = client
        self._events = Events(client)
        self._registry = Registry(client)
        self._supervision = Supervision()
        self._fleet = Fleet(spec)
        self._next_adoption = time.monotonic() + ADOPT_SECONDS
        for worker in self._strangers():
            text = f"{worker.id} died while no controller ran and is replaced"
            self._events.add(self._id, text, level="warn")
            Tallies(client).count(self._id, f"{RESTARTS}{worker.kind}")
            self._forget(worker.id)

    def __len__(self) -> int:
        return len(self._fleet)

    def workers(self) -> list[WorkerRecord]:
        """Records of the living workers. The last record of a worker that is gone is left out."""
        for ghost in self._strangers():
            self._forget(ghost.id)
        return self._registry.list(self._id)

    def keep(self, kind: WorkerKind, wanted: int) -> None:
        """Start what is missing, drain what is too much; the newest go first."""
        active = [member for member in self._fleet.of(kind) if not member.draining]
        for _ in range(wanted - len(active)):
            self._fleet.start(kind, self._new_id(kind))
        for member in sorted(active, key=_number)[wanted:]:
            self._fleet.drain(member)
        for member in self._fleet.of(kind):
            limit = self._drain_seconds + DRAIN_GRACE_SECONDS
            if member.draining and time.monotonic() - member.drained_at > limit:
                log.warning("drain_overdue", job=self._id, worker=member.id)
                self._dismiss(member)

    def _new_id(self, kind: WorkerKind) -> str:
        """An id that no living worker has: Redis may have forgotten that it gave some."""
        while True:
            worker_id = f"{kind}-{self._client.hincrby(keys.workers_started(self._id), kind, 1)}"
            if worker_id not in self._fleet:
                return worker_id

    def drain_all(self) -> None:
        for kind in WORKER_KINDS:
            for member in self._fleet.of(kind):
                self._fleet.drain(member)

    def mourn(self) -> JobError | None:
        """React to every worker that is gone, and to strays; answers an error if a death was one too many for the
        job."""
        if time.monotonic() >= self._next_adoption:
            self._next_adoption = time.monotonic() + ADOPT_SECONDS
            self._fleet.adopt()
        errors = [error for ended in self._fleet.poll() if (error := self._ended(ended)) is not None]
        return errors[0] if errors else None

    def replace_silent(self) -> JobError | None:
        """Dismiss workers whose heartbeat stopped although their process lives, or that never began to report."""
        heard = {worker.id: worker.heartbeat for worker in self._registry.list(self._id)}
        for kind in WORKER_KINDS:
            for member in self._fleet.of(kind):
                silent = time.time() - heard[member.id] if member.id in heard else 0.0
                age = time.monotonic() - member.started
                if silent > HEARTBEAT_TIMEOUT_SECONDS or (member.id not in heard and age > STARTUP_TIMEOUT_SECONDS):
                    self._events.add(self._id, f"{member.id} is silent and is replaced", level="warn")
                    self._dismiss(member)
                    if (error := self._death(kind, f"{member.id} fell silent")) is not None:
                        return error
        return None

    def end(self) -> None:
        """End all workers at once, strays too, and everything that is left of them."""
        self._fleet.adopt()
        members = [member for kind in WORKER_KINDS for member in self._fleet.of(kind)]
        self._fleet.kill_all()
        for member in members:
            self._forget(member.id)
        self._registry.clear(self._id)

    def _ended(self, ended: Ended) -> JobError | None:
        member = ended.member
        self._forget(member.id)
        if isinstance(ended.outcome, dict) and ended.outcome["outcome"] == "failed":
            return JobError(code=ended.outcome["code"], message=ended.outcome["message"])
        if ended.outcome is not None or member.draining:
            log.info("actor_ended", job=self._id, worker=member.id, outcome=str(ended.outcome))
            return None
        self._events.add(self._id, f"{member.id} died and is replaced: {ended.error}", level="warn")
        return self._death(member.kind, ended.error)

    def _death(self, kind: WorkerKind, cause: str) -> JobError | None:
        Tallies(self._client).count(self._id, f"{RESTARTS}{kind}")
        if not self._supervision.death(kind, self._progress(kind)):
            return None
        message = f"{MAX_DEATHS} {kind} workers were lost without progress in between; the last: {cause}"
        return JobError(code=f"{kind}_crash_loop", message=message)

    def _progress(self, kind: WorkerKind) -> int:
        """The progress that clears the count of deaths: committed steps of a learner, hand-overs of a worker."""
        if kind == "learner":
            return Progress(self._client).read(self._id).next_step
        counts: Any = self._client.hgetall(keys.handed_over(self._id))
        return sum(int(count) for worker, count in counts.items() if worker.decode().startswith(f"{kind}-"))

    def _dismiss(self, member: Member) -> None:
        self._fleet.kill(member)
        self._forget(member.id)

    def _forget(self, worker_id: str) -> None:
        """A worker is gone: its leases end now, its entry in the registry too."""
        streams.release_consumer(self._client, self._id, worker_id)
        self._registry.remove(self._id, worker_id)

    def _strangers(self) -> list[WorkerRecord]:
        return [worker for worker in self._registry.list(self._id) if worker.id not in self._fleet]


def _number(member: Member) -> int:
    return int(member.id.rsplit("-", 1)[1])

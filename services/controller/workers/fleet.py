"""The Ray actors of one job: start, adopt, watch, drain, kill.

Actors are detached and named `JOB_ID/WORKER_ID`, `max_restarts=0`: only the controller replaces them, and a new
controller adopts the living ones by name. A worker id is used once, so that an id names one incarnation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
import structlog
from ray.exceptions import RayError

from services.job.spec import JobSpec
from services.job.strict_json import JsonObject
from services.records.worker import WORKER_KINDS, LearnerOutcome, WorkerKind
from services.settings.processes import PlacementSettings

log = structlog.get_logger()

NAMESPACE = "sspo"
WORKER_RESOURCE = "sspo_worker"
"""A Ray resource by which nodes of a cluster can say that actors belong on them."""


@dataclass
class Member:
    """One living actor."""

    id: str
    kind: WorkerKind
    handle: Any
    run: Any
    """Future of the actor's `run`: resolves when the actor has ended, whatever the reason."""
    started: float
    draining: bool = False
    drained_at: float = 0.0


@dataclass(frozen=True)
class Ended:
    """An actor that is gone. `outcome` is what its `run` answered; None when it died, with the cause in `error`."""

    member: Member
    outcome: LearnerOutcome | str | None
    error: str


class Fleet:
    """All actors of one job."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        self._members: dict[str, Member] = {}
        self._gone: set[str] = set()
        """Ids of former members: Ray may still list one that was just killed."""
        self.adopt()

    def of(self, kind: WorkerKind) -> list[Member]:
        """Living members of a kind, draining ones included."""
        return [member for member in self._members.values() if member.kind == kind]

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._members

    def __len__(self) -> int:
        return len(self._members)

    def start(self, kind: WorkerKind, worker_id: str) -> Member:
        """Create one actor. Its constructor and its work go on in the background."""
        actor = _actor_class(kind).options(
            name=f"{self._spec.job_id}/{worker_id}", namespace=NAMESPACE, lifetime="detached", **_resources(kind)
        )
        log.info("actor_started", job=self._spec.job_id, worker=worker_id)
        return self._join(worker_id, kind, actor.remote(self._spec.model_dump_json(), worker_id))

    def poll(self) -> list[Ended]:
        """Members that ended since the last call; they are no longer members."""
        by_ref = {member.run: member for member in self._members.values()}
        if not by_ref:
            return []
        ready, _ = ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0)
        return [self._ended(by_ref[ref]) for ref in ready]

    def drain(self, member: Member) -> None:
        """Ask a member to finish what it has and end; once."""
        if not member.draining:
            member.draining, member.drained_at = True, time.monotonic()
            member.handle.drain.remote()

    def kill(self, member: Member) -> None:
        """End a member at once."""
        ray.kill(member.handle, no_restart=True)
        self._leave(member)

    def kill_all(self) -> None:
        for member in list(self._members.values()):
            self.kill(member)

    def _leave(self, member: Member) -> None:
        self._members.pop(member.id, None)
        self._gone.add(member.id)

    def _ended(self, member: Member) -> Ended:
        self._leave(member)
        try:
            return Ended(member, ray.get(member.run, timeout=5), "")
        except RayError as error:  # of a dead process or of an exception in `run`: both mean a death
            return Ended(member, None, f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:300]}")
        finally:
            ray.kill(member.handle, no_restart=True)  # a detached actor whose `run` ended still holds its process

    def _join(self, worker_id: str, kind: WorkerKind, handle: Any) -> Member:
        member = Member(worker_id, kind, handle, handle.run.remote(), time.monotonic())
        self._members[worker_id] = member
        return member

    def adopt(self) -> None:
        """Take in living actors of this job that others started: an earlier controller, or one that did not know yet
        that it had lost its place."""
        prefix = f"{self._spec.job_id}/"
        for found in ray.util.list_named_actors(all_namespaces=True):
            if found["namespace"] != NAMESPACE or not found["name"].startswith(prefix):
                continue
            worker_id = found["name"].removeprefix(prefix)
            if worker_id in self._members or worker_id in self._gone:
                continue
            try:
                handle = ray.get_actor(found["name"], namespace=NAMESPACE)
            except ValueError:  # it died between the two calls
                continue
            log.info("actor_adopted", job=self._spec.job_id, worker=worker_id)
            self._join(worker_id, _kind_of(worker_id), handle)


def _kind_of(worker_id: str) -> WorkerKind:
    """The kind that a worker's id begins with."""
    return next(kind for kind in WORKER_KINDS if worker_id.startswith(f"{kind}-"))


def _actor_class(kind: WorkerKind) -> Any:
    """The actor class, imported when first needed: the controller itself needs no torch and no vllm."""
    if kind == "learner":
        from services.learner.actor import LearnerActor

        return LearnerActor
    if kind == "rollout":
        from services.rollout.actor import RolloutActor

        return RolloutActor
    from services.reward.actor import RewardActor

    return RewardActor


def _resources(kind: WorkerKind) -> JsonObject:
    """GPUs where the cluster has them; CPU threads are set by the job's spec, so Ray counts none."""
    cluster = ray.cluster_resources()
    options: JsonObject = {"num_cpus": 0}
    if kind != "reward" and PlacementSettings.read().device != "cpu" and cluster.get("GPU", 0) >= 1:
        options["num_gpus"] = 1
    if WORKER_RESOURCE in cluster:
        options["resources"] = {WORKER_RESOURCE: 0.001}
    return options

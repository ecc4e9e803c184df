"""Does one event to the service, and says when the service has recovered from it.

Recovered means: another process of the kind does its work, and the job's journal has grown since it does.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from services.store.client import StoreError
from tests.chaos.cut import NotCut
from tests.chaos.plan import Action, Event, Victim
from tests.chaos.target import ENDED, Target
from tests.chaos.victims import alive, describe

FIND_SECONDS = 90.0
HIT_SECONDS = 60.0
POLL_SECONDS = 0.1
WORKERS = {Victim.ROLLOUT: "rollout", Victim.REWARD: "reward", Victim.LEARNER: "learner"}


class Missed(Exception):
    """The event did not happen: its victim was not there, or its point was not passed."""


@dataclass
class Wound:
    """One event that happened."""

    event: Event
    at: float
    """Wall-clock seconds."""
    gone: set[int]
    """Pids of those it ended."""
    note: str = ""
    lost_commits: int | None = None
    watched: list[psutil.Process] = field(default_factory=list)
    """Processes that have to end with the victim."""
    replaced_at: int | None = None
    """Records of the journal when another process had taken over."""
    seconds: float | None = None
    """Until it was recovered."""


class Injector:
    """Does events to one target."""

    def __init__(self, target: Target, dice: random.Random) -> None:
        self._target = target
        self._dice = dice

    def inject(self, event: Event, job_id: str) -> Wound:
        """Do it. Raises Missed."""
        match event.action:
            case Action.KILL:
                return self._kill(event, job_id)
            case Action.STOP:
                return self._stop(event, job_id)
            case Action.FAULT:
                return self._fault(event, job_id)
            case Action.CUT:
                return self._cut(event, job_id)

    def recovered(self, wound: Wound, job_id: str) -> bool:
        """Whether the service has recovered from it; notes how long that took."""
        ended = self._target.status(job_id) in ENDED
        if wound.replaced_at is None and (ended or self._replaced(wound, job_id)):
            wound.replaced_at = self._target.records(job_id)
        if wound.replaced_at is None:
            return False
        if ended or wound.event.victim is Victim.GRADER or self._target.records(job_id) > wound.replaced_at:
            wound.seconds = time.time() - wound.at
            return True
        return False

    # --- what is done

    def _kill(self, event: Event, job_id: str) -> Wound:
        victim = self._find(event, job_id)
        watched = self._target.family.under(Victim.RAY) if event.victim is Victim.RAY else []
        at = time.time()
        victim.kill()
        gone = {victim.pid, *(process.pid for process in watched)}
        return Wound(
            event, at, gone, note=describe([victim])[0] if alive(victim) else f"pid {victim.pid}", watched=watched
        )

    def _stop(self, event: Event, job_id: str) -> Wound:
        victim = self._find(event, job_id)
        victim.suspend()
        deadline = time.monotonic() + event.hold_seconds
        while time.monotonic() < deadline and alive(victim):
            time.sleep(POLL_SECONDS)
        survived = alive(victim)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGCONT)
        note = f"pid {victim.pid}, for {event.hold_seconds:.0f} s" + ("" if survived else ", was ended meanwhile")
        return Wound(event, time.time(), set() if survived else {victim.pid}, note)

    def _fault(self, event: Event, job_id: str) -> Wound:
        points = self._target.points
        armed = points.arm(event.point, event.victim, event.after)
        deadline = time.monotonic() + HIT_SECONDS
        while (hit := points.hit(armed)) is None:
            if time.monotonic() > deadline or self._target.status(job_id) in ENDED:
                points.disarm(event.point)
                time.sleep(POLL_SECONDS)
                if points.hit(armed) is None:
                    raise Missed(f"{event.point} was not passed")
            time.sleep(POLL_SECONDS)
        return Wound(event, hit["time"], {hit["pid"]}, f"pid {hit['pid']}, pass {event.after + 1}")

    def _cut(self, event: Event, job_id: str) -> Wound:
        server, at = self._find(event, job_id), time.time()
        try:
            done = self._target.cut_redis(server, job_id, event.commits, self._dice)
        except NotCut as error:
            raise Missed(str(error)) from error
        note = f"{done.lost_commits} commits, {done.lost_bytes} bytes" + (", torn" if done.torn else "")
        return Wound(event, at, set(), note, lost_commits=done.lost_commits)

    def _find(self, event: Event, job_id: str) -> psutil.Process:
        deadline = time.monotonic() + FIND_SECONDS
        while not (found := self._target.family.find(event.victim, event.point)):
            if self._target.status(job_id) in ENDED:
                raise Missed(f"the job ended before there was a {event.victim}")
            if time.monotonic() > deadline:
                raise Missed(f"no {event.victim} {event.point} within {FIND_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        return self._dice.choice(found)

    # --- who took over

    def _replaced(self, wound: Wound, job_id: str) -> bool:
        victim = wound.event.victim
        checks: dict[Victim, Callable[[], bool]] = {
            Victim.ENGINE: lambda: self._engine_ready(job_id, wound.gone),
            Victim.CONTROLLER: lambda: self._target.controller_pid() not in (None, *wound.gone),
            Victim.API: lambda: self._target.view(job_id) is not None,
            Victim.GRADER: lambda: any(p.pid not in wound.gone for p in self._target.family.find(Victim.GRADER)),
            Victim.REDIS: self._redis_answers,
            Victim.RAY: lambda: all(self._ready(job_id, kind, wound.gone) for kind in WORKERS.values()),
        }
        if victim in WORKERS:
            return self._ready(job_id, WORKERS[victim], wound.gone)
        return checks[victim]()

    def _ready(self, job_id: str, kind: str, gone: set[int]) -> bool:
        workers = self._target.workers(job_id)
        return any(worker.kind == kind and worker.state == "ready" and worker.pid not in gone for worker in workers)

    def _engine_ready(self, job_id: str, gone: set[int]) -> bool:
        for worker in self._target.workers(job_id):
            engine = worker.detail.engine_pid
            if worker.kind == "rollout" and worker.state == "ready" and engine and engine not in gone:
                return True
        return False

    def _redis_answers(self) -> bool:
        try:
            return bool(self._target.redis.ping())
        except StoreError:
            return False

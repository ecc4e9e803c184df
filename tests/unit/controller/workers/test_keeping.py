"""As many workers as wanted: who is started, who is drained, who is replaced and when it is one death too many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from services.controller.workers import crew as crew_module
from services.controller.workers.crew import DRAIN_GRACE_SECONDS, HEARTBEAT_TIMEOUT_SECONDS, Crew
from services.controller.workers.fleet import Ended, Member
from services.controller.workers.supervision import MAX_DEATHS
from services.job.spec import JobSpec
from services.records.worker import WORKER_KINDS, WorkerKind, WorkerRecord
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.registry import Registry
from services.trajectories import streams
from services.trajectories.entries import PROMPTS, TRAJECTORIES
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.tallies import Tallies
from tests.support.tiny import job_spec

JOB = "ftjob-1"


class Actors:
    """A fleet without Ray; what ends is put into `ended`."""

    def __init__(self, spec: JobSpec) -> None:
        self.members: dict[str, Member] = {}
        self.ended: list[Ended] = []
        self.adoptions = 0

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self.members

    def __len__(self) -> int:
        return len(self.members)

    def of(self, kind: WorkerKind) -> list[Member]:
        return [member for member in self.members.values() if member.kind == kind]

    def start(self, kind: WorkerKind, worker_id: str) -> None:
        self.members[worker_id] = Member(worker_id, kind, None, None, time.monotonic())

    def drain(self, member: Member) -> None:
        if not member.draining:
            member.draining, member.drained_at = True, time.monotonic()

    def kill(self, member: Member) -> None:
        del self.members[member.id]

    def kill_all(self) -> None:
        self.members.clear()

    def poll(self) -> list[Ended]:
        found, self.ended = self.ended, []
        for ended in found:
            self.members.pop(ended.member.id, None)
        return found

    def adopt(self) -> None:
        self.adoptions += 1


@dataclass
class Staff:
    """A crew on such actors, and who of them works."""

    client: Client
    crew: Crew

    @property
    def actors(self) -> Any:
        return self.crew._fleet

    def ids(self, *, draining: bool = False) -> list[str]:
        return [member.id for member in self.actors.members.values() if member.draining is draining]

    def end(self, worker_id: str, outcome: Any = None) -> Any:
        self.actors.ended.append(Ended(self.actors.members[worker_id], outcome, "" if outcome else "killed"))
        return self.crew.mourn()

    def warnings(self) -> list[str]:
        return [event.message for event in Events(self.client).list(JOB, limit=99)[0] if event.level == "warn"]

    def report(self, worker_id: str, *, ago: float = 0.0) -> None:
        kind: Any = worker_id.split("-")[0]
        Registry(self.client).put(JOB, record(worker_id, kind, time.time() - ago))


def record(worker_id: str, kind: Any, heartbeat: float) -> WorkerRecord:
    return WorkerRecord(id=worker_id, kind=kind, state="ready", policy_version=1, node="n", pid=1, heartbeat=heartbeat)


@pytest.fixture
def staff(client: Client, monkeypatch: pytest.MonkeyPatch) -> Staff:
    monkeypatch.setattr(crew_module, "Fleet", Actors)
    return Staff(client, Crew(job_spec(JOB), client))


def test_what_is_missing_is_started_and_the_newest_go_first(staff: Staff) -> None:
    staff.crew.keep("rollout", 11)
    staff.crew.keep("reward", 1)
    assert staff.ids() == [*(f"rollout-{number}" for number in range(1, 12)), "reward-1"]
    staff.crew.keep("rollout", 11)
    assert len(staff.crew) == 12
    staff.crew.keep("rollout", 9)
    assert staff.ids(draining=True) == ["rollout-10", "rollout-11"], "by number, not by spelling"
    staff.crew.keep("rollout", 10)
    assert staff.ids()[-1] == "rollout-12", "one that drains is not called back"


def test_who_does_not_drain_in_time_is_ended(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    staff.crew.keep("rollout", 1)
    staff.report("rollout-1")
    staff.crew.keep("rollout", 0)
    assert staff.ids(draining=True) == ["rollout-1"]
    staff.actors.members["rollout-1"].drained_at -= job_spec(JOB).rollout.drain_seconds + DRAIN_GRACE_SECONDS - 1
    staff.crew.keep("rollout", 0)
    assert staff.ids(draining=True) == ["rollout-1"], "it has a second left"
    staff.actors.members["rollout-1"].drained_at -= 2
    staff.crew.keep("rollout", 0)
    assert len(staff.crew) == 0 and staff.crew.workers() == []


def test_a_pause_drains_every_kind(staff: Staff) -> None:
    for kind in WORKER_KINDS:
        staff.crew.keep(kind, 1)
    staff.crew.drain_all()
    assert sorted(staff.ids(draining=True)) == ["learner-1", "reward-1", "rollout-1"]


def test_the_end_leaves_nobody(staff: Staff) -> None:
    for kind in WORKER_KINDS:
        staff.crew.keep(kind, 1)
        staff.report(f"{kind}-1")
    held(staff.client, "rollout-1")
    staff.crew.end()
    assert len(staff.crew) == 0 and staff.crew.workers() == [] and staff.actors.adoptions == 1, "strays too"
    assert taken_over(staff.client) == [0], "what it held is free at once"


def test_the_dead_lose_their_leases_and_are_told_of(staff: Staff) -> None:
    staff.crew.keep("rollout", 2)
    for number in (1, 2):
        staff.report(f"rollout-{number}")
    held(staff.client, "rollout-1")
    assert staff.end("rollout-1") is None
    assert [worker.id for worker in staff.crew.workers()] == ["rollout-2"]
    assert taken_over(staff.client) == [0]
    assert staff.warnings() == ["rollout-1 died and is replaced: killed"]
    assert Tallies(staff.client).read(JOB).restarts == {"rollout": 1}


def test_who_ended_as_asked_is_no_death(staff: Staff) -> None:
    staff.crew.keep("rollout", 2)
    staff.crew.keep("rollout", 1)
    assert staff.end("rollout-2") is None, "it was draining"
    assert staff.end("rollout-1", {"outcome": "drained"}) is None
    assert staff.warnings() == [] and Tallies(staff.client).read(JOB).restarts == {}


def test_a_worker_that_says_why_it_failed_fails_the_job_with_that(staff: Staff) -> None:
    staff.crew.keep("learner", 1)
    error = staff.end("learner-1", {"outcome": "failed", "code": "disk_full", "message": "no space"})
    assert (error.code, error.message) == ("disk_full", "no space")


@pytest.mark.parametrize("kind", ["learner", "rollout"])
def test_deaths_without_progress_fail_the_job_and_progress_forgives(staff: Staff, kind: Any) -> None:
    for _ in range(MAX_DEATHS - 1):
        staff.crew.keep(kind, 1)
        assert staff.end(staff.ids()[0]) is None
    if kind == "learner":
        Progress(staff.client).finish(JOB, epoch=1, next_step=1, numbers={}, entry_ids=[])
    else:
        staff.client.hincrby(keys.handed_over(JOB), "rollout-3", 1)
        staff.client.hincrby(keys.handed_over(JOB), "reward-1", 7)
    for death in range(MAX_DEATHS):
        staff.crew.keep(kind, 1)
        error = staff.end(staff.ids()[0])
        assert (error is None) == (death < MAX_DEATHS - 1)
    assert error.code == f"{kind}_crash_loop"
    assert error.message == f"{MAX_DEATHS} {kind} workers were lost without progress in between; the last: killed"


def test_work_of_graders_does_not_forgive_samplers(staff: Staff) -> None:
    for death in range(MAX_DEATHS):
        staff.crew.keep("rollout", 1)
        staff.client.hincrby(keys.handed_over(JOB), "reward-1", 1)
        assert (staff.end(staff.ids()[0]) is None) == (death < MAX_DEATHS - 1)


def test_who_falls_silent_is_replaced(staff: Staff) -> None:
    for kind in WORKER_KINDS:
        staff.crew.keep(kind, 1)
        staff.report(f"{kind}-1", ago=HEARTBEAT_TIMEOUT_SECONDS + (1 if kind == "reward" else -10))
    assert staff.crew.replace_silent() is None
    assert sorted(staff.ids()) == ["learner-1", "rollout-1"]
    assert staff.warnings() == ["reward-1 is silent and is replaced"]
    assert Tallies(staff.client).read(JOB).restarts == {"reward": 1}


def test_who_never_began_to_report_has_longer(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    staff.crew.keep("rollout", 1)
    assert staff.crew.replace_silent() is None and staff.ids() == ["rollout-1"]
    staff.actors.members["rollout-1"].started -= crew_module.STARTUP_TIMEOUT_SECONDS + 1
    assert staff.crew.replace_silent() is None and staff.ids() == []


def test_silence_too_often_fails_the_job(staff: Staff) -> None:
    for death in range(MAX_DEATHS):
        staff.crew.keep("reward", 1)
        [worker] = staff.ids()
        staff.report(worker, ago=HEARTBEAT_TIMEOUT_SECONDS + 1)
        error = staff.crew.replace_silent()
        assert (error is None) == (death < MAX_DEATHS - 1)
    assert error is not None and error.code == "reward_crash_loop" and "reward-5 fell silent" in error.message


def test_strays_are_looked_for_now_and_then(staff: Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    staff.crew.mourn()
    assert staff.actors.adoptions == 0
    monkeypatch.setattr(staff.crew, "_next_adoption", time.monotonic() - 1)
    staff.crew.mourn()
    staff.crew.mourn()
    assert staff.actors.adoptions == 1


def test_who_died_while_no_controller_ran_is_forgotten_and_told_of(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registry(client).put(JOB, record("rollout-4", "rollout", time.time()))
    held(client, "rollout-4")
    monkeypatch.setattr(crew_module, "Fleet", Actors)
    found = Staff(client, Crew(job_spec(JOB), client))
    assert found.warnings() == ["rollout-4 died while no controller ran and is replaced"]
    assert found.crew.workers() == [] and taken_over(client) == [0]
    assert Tallies(client).read(JOB).restarts == {"rollout": 1}


def test_a_last_word_of_one_that_is_gone_is_not_listed(staff: Staff) -> None:
    staff.crew.keep("rollout", 1)
    staff.report("rollout-1")
    staff.report("rollout-9")
    assert [worker.id for worker in staff.crew.workers()] == ["rollout-1"]
    assert [worker.id for worker in Registry(staff.client).list(JOB)] == ["rollout-1"]


def held(client: Client, consumer: str) -> None:
    """Let a worker hold group 0."""
    streams.prepare(client, JOB)
    assert streams.dispatch(client, JOB, 0, b"task", 0)
    assert Stage(client, JOB, PROMPTS, TRAJECTORIES, consumer).take() is not None


def taken_over(client: Client) -> list[int]:
    """What another worker may take over now."""
    return [entry.number for entry in Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-99").take_over(60)]

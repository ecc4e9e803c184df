"""The reconcile step of a job, with real Redis and without actors: races with people, and what one job may break."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from services.controller import loop as loop_module
from services.controller.job import starting
from services.controller.job.reconciler import JobReconciler
from services.controller.job.standing import Standing
from services.controller.job.waiting import Situation, situation_of
from services.controller.loop import Controller
from services.controller.validation import InvalidFile
from services.disk.layout import Layout
from services.records.worker import WorkerRecord, WorkerState
from services.store import keys
from services.store.client import Client
from services.store.job.events import Event, Events
from services.store.job.jobs import Jobs
from services.store.job.record import JobError, JobRecord
from services.store.job.transitions import CANCEL, Status
from services.store.job.waits import Wait, WaitKey
from services.trajectories import streams
from services.trajectories.entries import PROMPTS
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.progress import Progress, ProgressRecord
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


class NoWorkers:
    """Stands where a job's crew stands; `lost` is what the next look finds."""

    def __init__(self) -> None:
        self.lost: JobError | None = None
        self.wanted: dict[str, int] = {}
        self.ends = 0

    def __len__(self) -> int:
        return 0

    def keep(self, kind: str, wanted: int) -> None:
        self.wanted[kind] = wanted

    def mourn(self) -> JobError | None:
        return self.lost

    def replace_silent(self) -> JobError | None:
        return None

    def workers(self) -> list[Any]:
        return []

    def drain_all(self) -> None:
        pass

    def end(self) -> None:
        self.ends += 1


@pytest.fixture
def crew() -> NoWorkers:
    return NoWorkers()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def reconciler(client: Client, tmp_path: Path, crew: NoWorkers, pool: ThreadPoolExecutor) -> JobReconciler:
    create_job(client, job_spec(JOB))
    return JobReconciler(Jobs(client).get(JOB), client, Layout(tmp_path), pool, cast(Any, lambda *_: crew))


def move(client: Client, *statuses: Status) -> JobRecord:
    for status in statuses:
        Jobs(client).transition(JOB, status, by="test")
    return Jobs(client).get(JOB)


def test_a_cancel_that_comes_while_a_failed_job_is_cleaned_is_cleaned_too(
    client: Client, reconciler: JobReconciler, tmp_path: Path
) -> None:
    failed = move(client, Status.QUEUED, Status.RUNNING, Status.FAILED)
    streams.prepare(client, JOB)
    assert streams.dispatch(client, JOB, 0, b"task", 0)
    Jobs(client).act(JOB, CANCEL, by="a person, between reading the record and cleaning up")
    reconciler.tick(failed, may_start=False)
    record = Jobs(client).get(JOB)
    assert record.status is Status.CANCELLED and record.cleaned_as is Status.FAILED, "not done yet"
    reconciler.tick(record, may_start=False)
    assert Jobs(client).get(JOB).cleaned_as is Status.CANCELLED
    assert client.exists(keys.stream(JOB, PROMPTS)) == 0
    assert Progress(client).read(JOB).next_step == 0


def test_a_failed_job_keeps_its_words(client: Client, reconciler: JobReconciler, crew: NoWorkers) -> None:
    running = move(client, Status.QUEUED, Status.RUNNING)
    crew.lost = JobError(code="learner_crash_loop", message="five died")
    reconciler.tick(running, may_start=False)
    long_gone = Situation("training", Wait(WaitKey.TRAINING, "something long gone"))
    Standing(client, running.spec).wait(running, long_gone)
    record = Jobs(client).get(JOB)
    assert record.status is Status.FAILED and record.error is not None and record.error.message == "five died"
    assert record.stage == "failed" and record.waiting_for is not None and record.waiting_for.what == "a resume"


def test_a_finished_learner_is_not_started_again(
    client: Client, reconciler: JobReconciler, crew: NoWorkers, tmp_path: Path
) -> None:
    running = move(client, Status.QUEUED, Status.RUNNING)
    Layout(tmp_path).job(JOB).export.mkdir(parents=True)
    Progress(client).set(JOB, phase="finished")
    reconciler.tick(running, may_start=False)
    assert Jobs(client).get(JOB).status is Status.SUCCEEDED
    assert (crew.wanted, crew.ends) == ({}, 1)


def test_a_job_that_never_trained_is_validated_when_it_is_resumed(
    client: Client, reconciler: JobReconciler, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise InvalidFile("file-1, line 3: no answer", "training_file")

    monkeypatch.setattr(starting, "validate_files", refuse)
    failed = move(client, Status.FAILED, Status.QUEUED)
    reconciler.tick(failed, may_start=True)
    pool.submit(int).result(10)  # the one thread has come to the end of the validation
    reconciler.tick(failed, may_start=True)
    record = Jobs(client).get(JOB)
    assert record.status is Status.FAILED and record.error is not None and "line 3" in record.error.message


def test_one_unreadable_record_does_not_stop_the_others(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Noting:
        def __init__(self, record: JobRecord, *_: Any) -> None:
            self.id = record.id

        def tick(self, record: JobRecord, may_start: bool) -> None:
            seen.append(self.id)

    monkeypatch.setattr(loop_module, "JobReconciler", Noting)
    for name in ("ftjob-a", "ftjob-b"):
        create_job(client, job_spec(name))
    client.hset(keys.job("ftjob-a"), "spec", '{"from": "another version"}')
    controller = Controller(client, Layout(tmp_path))
    controller._tick()
    controller._tick()
    assert set(seen) == {"ftjob-b"}


def test_a_controller_that_lost_its_lease_touches_no_further_job(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Stopped:
        """While the first job is looked at, the process is stopped, and another controller takes charge."""

        def __init__(self, record: JobRecord, *_: Any) -> None:
            self.id = record.id

        def tick(self, record: JobRecord, may_start: bool) -> None:
            seen.append(self.id)
            client.set(keys.CONTROLLER, "another", ex=60)

    monkeypatch.setattr(loop_module, "JobReconciler", Stopped)
    monkeypatch.setattr(loop_module.NodeWatch, "look", lambda self: None)  # no Ray here
    for name in ("ftjob-a", "ftjob-b"):
        create_job(client, job_spec(name))
    with pytest.raises(loop_module.LostLease):
        Controller(client, Layout(tmp_path)).run()
    assert len(seen) == 1
    assert client.get(keys.CONTROLLER) == b"another", "a lease that isn't ours stays"


def test_a_long_wait_is_told_once_with_its_stage(
    client: Client, reconciler: JobReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(times: int) -> list[Event]:
        for _ in range(times):
            reconciler.tick(Jobs(client).get(JOB), may_start=False)
        return [event for event in Events(client).list(JOB, limit=50)[0] if "Stalled" in event.message]

    move(client, Status.QUEUED, Status.RUNNING)
    Progress(client).set(JOB, phase="training")
    assert look(3) == []
    began = time.time()
    monkeypatch.setattr("services.controller.job.standing.time.time", lambda: began + 3600)
    [told] = look(3)
    assert told.level == "warn" and told.data is not None
    assert (told.data["stage"], told.data["wait"]) == ("training", "training")
    assert "Stalled in training: waiting for the learner to train the step" in told.message
    Progress(client).set(JOB, next_step=1)
    look(2)
    monkeypatch.setattr("services.controller.job.standing.time.time", lambda: began + 7200)
    assert len(look(3)) == 2, "the next step is a wait of its own"


def test_each_step_is_a_wait_of_its_own(client: Client) -> None:
    create_job(client, job_spec(JOB))
    since = []
    move(client, Status.QUEUED, Status.RUNNING)
    for step, scored in ((3, 0), (3, 1), (4, 0)):
        record = Jobs(client).get(JOB)
        Standing(client, record.spec).wait(record, situation(record, step, scored))
        waiting = Jobs(client).get(JOB).waiting_for
        assert waiting is not None and f"{scored} of 2" in waiting.what
        since.append(waiting.since)
        time.sleep(0.01)
    assert since[0] == since[1] < since[2], "a job that goes on is not stalled"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("ready", "a full batch for step 3: 1 of 2 groups are scored"),
        ("syncing", "a full batch for step 3: 1 of 2 groups are scored"),
        ("starting", "rollout workers to become ready (0 of 1)"),
        ("draining", "rollout workers to become ready (0 of 1)"),
    ],
)
def test_a_worker_that_loads_weights_is_not_waited_for(client: Client, state: WorkerState, words: str) -> None:
    create_job(client, job_spec(JOB))
    assert situation(Jobs(client).get(JOB), 3, 1, state).wait.words == words


def test_a_wait_that_an_older_controller_wrote_is_replaced(client: Client) -> None:
    create_job(client, job_spec(JOB))
    move(client, Status.QUEUED, Status.RUNNING)
    client.hset(keys.job(JOB), "waiting_for", json.dumps({"what": "a full batch for step 3: 1 of 2", "since": 5.0}))
    old = Jobs(client).get(JOB)
    assert old.waiting_for is not None and (old.waiting_for.since, old.waiting_for.key) == (5.0, None)
    Standing(client, old.spec).wait(old, situation(old, 3, 1))
    new = Jobs(client).get(JOB).waiting_for
    assert new is not None and (new.key, new.step) == (WaitKey.BATCH, 3) and new.since > 5.0


def situation(record: JobRecord, step: int, scored: int, state: WorkerState = "ready") -> Situation:
    workers = [
        WorkerRecord(id=kind, kind=kind, state=state, policy_version=1, node="n", pid=1, heartbeat=0.0)
        for kind in ("rollout", "reward")
    ]
    ledger = LedgerSnapshot(8, 0, {}, 8, {"scored": scored}, ())
    progress = ProgressRecord(phase="waiting_for_batch", next_step=step)
    return situation_of(record, progress, workers, ledger, None)

"""A running job in the reconcile loop: what is issued, evaluated and kept alive, until it pauses or ends."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, cast

import pytest

from services.controller.job import stopping
from services.controller.job.reconciler import JobReconciler
from services.disk.files import make_folder
from services.disk.layout import Layout
from services.job.spec import EvaluationSpec
from services.records.worker import WorkerRecord
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.record import JobError, JobRecord
from services.store.job.steps import Evaluations
from services.store.job.transitions import PAUSE, Status
from services.trajectories.entries import EVAL_PROMPTS, EVAL_SCORED, PROMPTS
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


class Workers:
    """Stands where a job's crew stands, and notes what is asked of it."""

    def __init__(self) -> None:
        self.wanted: dict[str, int] = {}
        self.living = 0
        self.silent: JobError | None = None
        self.drains = self.ends = 0

    def __len__(self) -> int:
        return self.living

    def keep(self, kind: str, wanted: int) -> None:
        self.wanted[kind] = wanted

    def mourn(self) -> JobError | None:
        return None

    def replace_silent(self) -> JobError | None:
        return self.silent

    def workers(self) -> list[WorkerRecord]:
        return []

    def drain_all(self) -> None:
        self.drains += 1

    def end(self) -> None:
        self.ends += 1
        self.living = 0


class Job:
    """One job of 3 steps of 2 groups, evaluated on 3 rows, that is running; `look` is a look of the controller."""

    def __init__(self, client: Client, root: Path) -> None:
        self.client = client
        evaluation = {"evaluation": EvaluationSpec(samples=3), "validation_file": "file-2"}
        spec = job_spec(JOB, stall_seconds=3600).model_copy(update=evaluation)
        create_job(client, spec)
        self.pool = ThreadPoolExecutor(1)
        self.layout = Layout(root)
        self.crew = Workers()
        self.restart()
        self.progress = Progress(client)
        Jobs(client).transition(JOB, Status.QUEUED, by="test")

    def restart(self, **learner: Any) -> None:
        """Another controller takes over the job, which has other settings."""
        record, crew = self.record, self.crew
        spec = record.spec.model_copy(update={"learner": record.spec.learner.model_copy(update=learner)})
        changed, crew_of = record.model_copy(update={"spec": spec}), cast(Any, lambda *_: crew)
        self.reconciler = JobReconciler(changed, self.client, self.layout, self.pool, crew_of)

    @property
    def record(self) -> JobRecord:
        return Jobs(self.client).get(JOB)

    def look(self, times: int = 1) -> JobRecord:
        for _ in range(times):
            self.reconciler.tick(self.record, may_start=True)
            wait([self.pool.submit(int)], 10)  # the dispatcher is made beside the loop: by now it is
        return self.record

    def run(self) -> None:
        """Let it be queued and started, as after a resume: a first start has its files validated."""
        self.learner(next_step=0)
        self.look()

    def learner(self, *, next_step: int, phase: str = "waiting_for_batch", **said: Any) -> None:
        self.progress.assert_training(JOB, epoch=1, next_step=next_step, cursor_at_least=0, numbers={})
        self.progress.set(JOB, phase=phase, **said)

    def count(self, stream: str) -> int:
        return int(self.client.xlen(keys.stream(JOB, stream)))

    def messages(self) -> list[str]:
        return [event.message for event in Events(self.client).list(JOB, limit=50)[0]]


@pytest.fixture
def job(client: Client, tmp_path: Path, model_and_rows: None) -> Job:
    return Job(client, tmp_path)


def test_a_queued_job_waits_for_its_turn(job: Job) -> None:
    job.learner(next_step=0, phase="drained")
    job.reconciler.tick(job.record, may_start=False)
    waiting = job.record.waiting_for
    assert job.record.status is Status.QUEUED and waiting is not None and waiting.what == "another job to end"
    job.look()
    assert job.record.status is Status.RUNNING
    assert job.progress.read(JOB).phase == "", "what an earlier learner did last is no news"


def test_prompts_are_issued_once_the_learner_has_said_what_it_knows(job: Job) -> None:
    job.run()
    job.client.hset(keys.progress(JOB), "asserted_run", "a run of Redis that is over")
    job.look(3)
    assert job.count(PROMPTS) == 0, "nobody knows yet which numbers are finished"
    assert job.crew.wanted == {"learner": 1, "rollout": 1, "reward": 1}
    job.learner(next_step=0)
    job.look(3)
    assert job.count(PROMPTS) == 6, "all that the steps need, within the staleness window"


def test_no_more_is_issued_than_the_guard_allows(job: Job) -> None:
    job.run()
    job.learner(next_step=0, staleness_window=0)
    job.look(3)
    assert job.count(PROMPTS) == 2
    job.learner(next_step=0, staleness_window=None)
    job.look(3)
    assert job.count(PROMPTS) == 6


def test_numbers_that_redis_lost_are_issued_again_and_counted_as_under_way(job: Job) -> None:
    job.run()
    job.learner(next_step=0, staleness_window=0)
    job.look(3)
    job.client.delete(keys.stream(JOB, PROMPTS), keys.stream_index(JOB, PROMPTS))
    assert Ledger(job.client).snapshot(JOB).missing == (0, 1)
    job.look()
    snapshot = Ledger(job.client).snapshot(JOB)
    assert snapshot.balanced and (snapshot.issued, snapshot.in_flight) == (2, 2), "and no new ones beside them"


def test_full_queues_hold_up_the_issuing_and_the_job_says_so(job: Job) -> None:
    job.run()
    job.restart(max_queued_bytes=1)
    record = job.look(4)
    assert job.count(PROMPTS) == 2, "one batch may always be under way"
    assert record.waiting_for is not None and "no more groups are issued above" in record.waiting_for.what


def test_a_wanted_evaluation_has_its_prompts_issued_and_its_answers_collected(job: Job) -> None:
    job.run()
    job.learner(next_step=0, evaluation_step=0)
    job.look(3)
    assert job.count(EVAL_PROMPTS) == 3
    for number in range(3):
        answer(job.client, number)
    job.look()
    [outcome] = Evaluations(job.client).list(JOB)
    assert (outcome.step, outcome.failed, outcome.missing) == (0, 3, 0)


def test_nothing_is_evaluated_that_was_not_asked_for(job: Job) -> None:
    job.run()
    job.look(3)
    assert job.count(EVAL_PROMPTS) == 0


def test_the_end_waits_for_the_last_evaluation(job: Job, tmp_path: Path) -> None:
    job.run()
    export = Layout(tmp_path).job(JOB).export
    make_folder(export)
    (export / "model.safetensors").write_bytes(b"weights")
    job.learner(next_step=3, phase="finished", evaluation_step=3, trained_tokens=99)
    job.crew.wanted.clear()
    record = job.look(3)
    assert (record.status, record.stage) == (Status.RUNNING, "evaluating")
    assert record.waiting_for is not None and record.waiting_for.what == "the last evaluation to end"
    assert job.crew.wanted == {"rollout": 1, "reward": 1} and job.crew.ends == 0, "workers stay, no learner is started"
    for number in range(3):
        answer(job.client, number)
    record = job.look()
    assert record.status is Status.SUCCEEDED and record.cleaned_as is Status.SUCCEEDED
    assert record.trained_tokens == 99 and record.fine_tuned_model == record.model_name
    assert len(record.result_files) == 1 and job.crew.ends == 1
    assert job.count(PROMPTS) == 0 and Ledger(job.client).snapshot(JOB).balanced
    assert f"The job succeeded; the model is registered as {record.model_name}" in job.messages()


def test_a_pause_waits_for_the_workers_and_then_no_longer(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.run()
    job.look(3)
    job.crew.living = 2
    Jobs(job.client).act(JOB, PAUSE, by="test")
    record = job.look(2)
    assert (record.status, record.stage, job.crew.drains, job.crew.ends) == (Status.PAUSING, "pausing", 2, 0)
    monkeypatch.setattr(stopping, "PAUSE_GRACE_SECONDS", -job.record.spec.rollout.drain_seconds)
    record = job.look()
    assert record.status is Status.PAUSED and job.crew.ends == 1, "who does not drain in time is ended"
    assert job.count(PROMPTS) == 6, "its groups wait in their streams"
    record = job.look()
    assert record.waiting_for is not None and record.waiting_for.what == "a person to resume the job"


def test_each_pause_has_its_own_time(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one was cut short by a failure; the second must not be ended for its length."""
    job.run()
    job.crew.living = 2
    monkeypatch.setattr(stopping, "PAUSE_GRACE_SECONDS", 1.0 - job.record.spec.rollout.drain_seconds)
    Jobs(job.client).act(JOB, PAUSE, by="test")
    job.look()
    Jobs(job.client).transition(JOB, Status.FAILED, by="somebody")
    job.look()
    time.sleep(1.1)
    for status in (Status.QUEUED, Status.RUNNING):
        Jobs(job.client).transition(JOB, status, by="a person")
    job.crew.living = 2
    Jobs(job.client).act(JOB, PAUSE, by="test")
    assert job.look().status is Status.PAUSING


def test_a_pause_is_over_as_soon_as_nobody_works(job: Job) -> None:
    job.run()
    Jobs(job.client).act(JOB, PAUSE, by="test")
    assert job.look().status is Status.PAUSED


def test_workers_that_fall_silent_too_often_fail_the_job(job: Job) -> None:
    job.run()
    job.crew.silent = JobError(code="rollout_crash_loop", message="five fell silent")
    record = job.look()
    assert record.status is Status.FAILED and record.error == job.crew.silent
    assert job.crew.wanted == {}, "and none is started any more"
    record = job.look()
    assert record.cleaned_as is Status.FAILED and job.crew.ends == 1


def test_a_job_that_waits_for_a_person_is_not_stalled(job: Job) -> None:
    job.run()
    job.restart(stall_seconds=0.0)
    Jobs(job.client).update(JOB, reward_workers=0)
    job.look(4)
    assert not [message for message in job.messages() if "Stalled" in message]
    Jobs(job.client).update(JOB, reward_workers=1)
    job.look(4)
    assert len([message for message in job.messages() if "Stalled" in message]) == 1


def answer(client: Client, number: int) -> None:
    """A row that could not be graded, as a reward worker says it."""
    from services.trajectories.codec import encode
    from sspo_proto.trajectory_pb2 import Failure, Group, PromptTask

    task = PromptTask(schema_version=1, job_id=JOB, group_number=number)
    group = Group(schema_version=1, task=task, failure=Failure(reason="grader_error"))
    fields: dict[Any, Any] = {"job": JOB, "number": number, "step": 0, "payload": encode(group)}
    client.xadd(keys.stream(JOB, EVAL_SCORED), fields)

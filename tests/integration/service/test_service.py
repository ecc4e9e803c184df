"""The whole service on real parts: jobs survive kills, scale, pause, fail with a reason, and stay after a restart."""

from __future__ import annotations

import json
import time
from typing import Any

import psutil
import pytest

from tests.support.audit import audit
from tests.support.service import RunningService, kill
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

SMALL = {"batch_size": 8, "updates_per_step": 1, "max_staleness": 4}


def succeeded(view: dict[str, Any]) -> bool:
    return bool(view["status"] == "succeeded")


def engine_child(actor_pid: int) -> int:
    """The engine's process under a rollout actor: its largest child."""
    children = psutil.Process(actor_pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss).pid


def assert_nothing_lost(service: RunningService, job_id: str, steps: int, batch_size: int) -> None:
    ledger = service.view(job_id)["ledger"]
    assert ledger["balanced"] and ledger["in_flight"] == 0, ledger
    assert ledger["trained"] == steps * batch_size
    report = audit(service.layout.job(job_id).journal)
    assert report.clean and report.closed, report
    assert report.steps == steps and report.trained == ledger["trained"]
    assert report.dropped == ledger["dropped"]


def test_a_job_survives_the_death_of_everything(service: RunningService) -> None:
    steps = 240  # more than a fast machine trains between the kills
    job_id = service.submit(learner={**SMALL, "steps": steps, "checkpoint_every": 1000})
    service.wait_for(job_id, lambda view: view["step"] >= 2, 120)

    killed: set[str] = set()

    def fresh(kind: str) -> list[dict[str, Any]]:
        """Ready workers that weren't killed before: a dying one may still say that it is ready."""
        return [worker for worker in service.workers(job_id, kind) if worker["id"] not in killed]

    def victim(kind: str) -> int:
        wait_until(lambda: fresh(kind), 90)
        worker = fresh(kind)[0]
        killed.add(worker["id"])
        return int(worker["pid"])

    def kill_worker(kind: str) -> None:
        kill(victim(kind))

    def kill_engine() -> None:
        kill(engine_child(victim("rollout")))

    deaths = [
        lambda: kill_worker("reward"),
        lambda: kill(service.module("services.api").pid),
        lambda: kill(service.module("services.controller").pid),
        lambda: kill_worker("learner"),  # no checkpoint was written yet: all steps are replayed from the journal
        kill_engine,
        lambda: kill_worker("rollout"),
    ]
    for death in deaths:
        before = service.view(job_id)
        assert before["status"] == "running", "the job must still run when the next kill comes"
        death()
        after = service.view(job_id)
        assert after["ledger"]["balanced"], after["ledger"]
        service.wait_for(job_id, lambda view, at=before["step"]: view["step"] > at or succeeded(view), 120)
        assert service.view(job_id)["ledger"]["balanced"]
    service.wait_for(job_id, succeeded, 180)
    assert_nothing_lost(service, job_id, steps, SMALL["batch_size"])
    events = [event.message for event in service.client.fine_tuning.jobs.list_events(job_id, limit=100)]
    assert sum(" died " in message and "is replaced" in message for message in events) >= 4, events


def test_rollout_workers_are_scaled_while_the_job_runs(service: RunningService) -> None:
    job_id = service.submit(learner={**SMALL, "steps": 5000, "max_staleness": 2})  # it is cancelled long before
    service.wait_for(job_id, lambda view: view["step"] >= 1, 120)
    service.scale(job_id, "rollout", 2)
    wait_until(lambda: len(service.workers(job_id, "rollout")) == 2, 90)
    asked_at = time.time()
    service.scale(job_id, "rollout", 0)

    def unmanned(view: dict[str, Any]) -> bool:
        what = view["waiting_for"]["what"] if view["waiting_for"] else ""
        rollout_workers = [worker for worker in view["workers"] if worker["kind"] == "rollout"]
        return "rollout workers: replicas is 0" in what and not rollout_workers  # drained ones end a little later

    view = service.wait_for(job_id, unmanned, 60)
    assert asked_at <= view["waiting_for"]["since"] <= time.time(), "since it was scaled down, not since it began"
    assert view["ledger"]["balanced"]
    stopped_at = view["step"]
    time.sleep(2)
    assert service.view(job_id)["step"] <= stopped_at + 1
    service.scale(job_id, "rollout", 1)
    service.wait_for(job_id, lambda view: view["step"] > stopped_at + 1, 90)
    paused = service.client.fine_tuning.jobs.pause(job_id)
    assert paused.status in ("pausing", "paused")
    view = service.wait_for(job_id, lambda view: view["status"] == "paused", 90)
    assert view["workers"] == [] and view["ledger"]["balanced"]
    trained = view["ledger"]["trained"]
    assert service.client.fine_tuning.jobs.resume(job_id).status in ("queued", "running")
    view = service.wait_for(job_id, lambda view: view["ledger"]["trained"] > trained, 120)
    service.client.fine_tuning.jobs.cancel(job_id)
    view = service.wait_for_end(job_id)
    assert view["ledger"]["dropped"].get("job_end", 0) > 0
    report = audit(service.layout.job(job_id).journal)
    assert report.clean and report.closed


@pytest.mark.parametrize(
    ("line", "row", "complaint"),
    [
        (3, '{"messages": []}', "messages"),
        (2, "{not json", "JSON"),
        (4, '{"messages": [{"role": "user", "content": "1+1="}]}', "answer"),
    ],
)
def test_bad_files_fail_the_job_with_file_and_line(
    service: RunningService, line: int, row: str, complaint: str
) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "1+1="}], "answer": "002"})
    rows = [good] * 5
    rows[line - 1] = row
    content = ("bad.jsonl", "\n".join(rows).encode())
    file = service.client.files.create(file=content, purpose="fine-tune")
    job_id = service.submit(training_file=file.id)
    wait_until(lambda: service.client.fine_tuning.jobs.retrieve(job_id).status == "failed", 60)
    error = service.client.fine_tuning.jobs.retrieve(job_id).error
    assert error is not None and error.param == "training_file"
    assert file.id in error.message and f"line {line}" in error.message and complaint in error.message


def test_after_sigterm_nothing_lives_and_everything_is_there_again(service: RunningService, ended_job: str) -> None:
    job_id = ended_job
    job = service.client.fine_tuning.jobs.retrieve(job_id)
    [result] = job.result_files
    table = service.client.files.content(result).read()
    assert table.startswith(b"step,reward_mean")
    family = service.family()
    assert len(family) > 5
    service.stop()
    assert [process for process in family if process.is_running()] == []
    service.start()
    again = service.client.fine_tuning.jobs.retrieve(job_id)
    assert (again.status, again.fine_tuned_model) == ("succeeded", job.fine_tuned_model)
    assert service.client.files.content(result).read() == table
    assert service.view(job_id)["ledger"]["balanced"]
    assert len(list(service.client.fine_tuning.jobs.checkpoints.list(job_id))) >= 1

"""Before a job runs: what validation finds, and how a job gets its turn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.controller.job import starting
from services.controller.job.standing import Standing
from services.controller.job.starting import Starting
from services.controller.validation import InvalidFile
from services.disk.layout import Layout
from services.store import keys
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.record import JobRecord
from services.store.job.transitions import CANCEL, RESUME, Status
from services.trajectories.entries import PROMPTS
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


class Case:
    """A new job; `found` is what validation comes to."""

    def __init__(self, client: Client, root: Path, pool: ThreadPoolExecutor) -> None:
        spec = job_spec(JOB)
        create_job(client, spec)
        self.client = client
        self.pool = pool
        self.found: Exception | None = None
        self.validations = 0
        self.starting = Starting(spec, client, Layout(root), pool, Standing(client, spec))

    def validates(self, *_: Any) -> None:
        self.validations += 1
        if self.found is not None:
            raise self.found

    @property
    def record(self) -> JobRecord:
        return Jobs(self.client).get(JOB)

    def look(self, times: int = 2) -> JobRecord:
        for _ in range(times):
            if self.record.status is Status.VALIDATING_FILES:
                self.starting.validate()
            elif self.record.status is Status.QUEUED:
                self.starting.queue(self.record, True)
            self.pool.submit(int).result(10)  # validation goes on beside the loop: by now it is done
        return self.record


@pytest.fixture
def case(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with ThreadPoolExecutor(1) as pool:
        made = Case(client, tmp_path, pool)
        monkeypatch.setattr(starting, "validate_files", made.validates)
        yield made


def test_a_job_with_valid_files_is_queued_and_then_runs(case: Case, client: Client) -> None:
    assert case.look(3).status is Status.RUNNING and case.validations == 1
    assert client.exists(keys.stream(JOB, PROMPTS)) == 1, "workers find the streams they take from"


def test_a_file_that_is_refused_fails_the_job_with_its_place(case: Case) -> None:
    case.found = InvalidFile("file-1, line 3: no answer", "training_file")
    record = case.look()
    assert record.status is Status.FAILED and record.error is not None
    assert (record.error.code, record.error.param) == ("invalid_file", "training_file")
    assert record.error.message == "file-1, line 3: no answer"


def test_a_validation_that_breaks_fails_the_job_and_is_done_again_when_it_is_resumed(case: Case) -> None:
    case.found = RuntimeError("a bug")
    record = case.look()
    assert record.status is Status.FAILED and record.error is not None
    assert (record.error.code, record.error.message) == ("validation_error", "RuntimeError: a bug")
    case.found = None
    Jobs(case.client).act(JOB, RESUME, by="a person")
    assert case.look().status is Status.RUNNING and case.validations == 2


def test_a_cancel_during_validation_stays(case: Case) -> None:
    case.look(1)
    Jobs(case.client).act(JOB, CANCEL, by="a person")
    case.starting.validate()
    assert case.record.status is Status.CANCELLED

"""What a job that succeeded leaves: a model, and a table of its steps; nothing for one that was ended meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.controller.results import register_results
from services.layout import Layout
from services.store.client import Client
from services.store.files import Files
from services.store.jobs import JobRecord, Jobs
from services.store.steps import KEPT, Steps
from services.store.transitions import CANCEL, Status
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def finished(client: Client, layout: Layout) -> JobRecord:
    """A running job whose learner has exported, after more steps than Redis keeps."""
    create_job(client, job_spec(JOB))
    for status in (Status.QUEUED, Status.RUNNING):
        Jobs(client).transition(JOB, status, by="test")
    for step in range(KEPT + 3):
        Steps(client, layout).put(JOB, step, {"loss": step / 2, "drift": {"kl_k3": 0.1}})
    layout.job(JOB).export.mkdir(parents=True)
    (layout.job(JOB).export / "config.json").write_text("{}")
    return Jobs(client).get(JOB)


def test_the_model_and_every_step_are_left(client: Client, layout: Layout, finished: JobRecord) -> None:
    results = register_results(client, layout, finished)
    assert results is not None and (layout.models / results.model / "config.json").read_text() == "{}"
    lines = Files(client, layout).path(results.files[0]).read_text().splitlines()
    assert lines[0].startswith("step,reward_mean,loss") and len(lines) == 1 + KEPT + 3
    assert lines[-1].split(",")[:3] == [str(KEPT + 2), "", str((KEPT + 2) / 2)]


def test_a_job_that_was_cancelled_meanwhile_leaves_no_model(
    client: Client, layout: Layout, finished: JobRecord
) -> None:
    Jobs(client).act(JOB, CANCEL, by="a person, while the model is copied")
    assert register_results(client, layout, finished) is None
    assert not (layout.models / finished.model_name).exists()
    assert [file.name for file in layout.models.rglob("*") if file.is_file()] == []
    assert Files(client, layout).list(limit=10)[0] == []

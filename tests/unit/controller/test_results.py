"""What a job that succeeded leaves: a model, and a table of its steps."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from services.controller.results import register_results
from services.disk.layout import Layout
from services.records.drift import DriftFigures
from services.records.step import StepRecord
from services.store.client import Client
from services.store.files import Files
from services.store.job.jobs import Jobs
from services.store.job.record import JobRecord
from services.store.job.steps import KEPT, Steps
from services.store.job.transitions import Status
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
        Steps(client, layout).put(JOB, StepRecord(step=step, loss=step / 2, drift=DriftFigures(kl_k3=0.1)))
    layout.job(JOB).export.mkdir(parents=True)
    (layout.job(JOB).export / "config.json").write_text("{}")
    return Jobs(client).get(JOB)


def test_the_model_and_every_step_are_left(client: Client, layout: Layout, finished: JobRecord) -> None:
    results = register_results(client, layout, finished)
    assert (layout.models / results.model / "config.json").read_text() == "{}"
    lines = Files(client, layout).path(results.files[0]).read_text().splitlines()
    assert lines[0].startswith("step,reward_mean,loss") and len(lines) == 1 + KEPT + 3
    assert lines[-1].split(",")[:3] == [str(KEPT + 2), "", str((KEPT + 2) / 2)]


def test_the_models_files_are_the_exported_ones(
    client: Client, layout: Layout, finished: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = layout.job(JOB).export / "config.json"
    results = register_results(client, layout, finished)
    registered = layout.models / results.model / "config.json"
    assert registered.samefile(exported), "nothing is copied"
    exported.unlink()
    assert registered.read_text() == "{}"

    def refuses(*about: Any) -> None:
        raise OSError(errno.EXDEV, "another file system")

    exported.write_text("{}")
    monkeypatch.setattr(os, "link", refuses)
    assert register_results(client, layout, finished).model == results.model
    assert not registered.samefile(exported) and registered.read_text() == "{}"

"""A job whose groups are scored already, for learners around a model that is one number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.learner.reports import samples
from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from tests.support.learning import put
from tests.support.tiny import create_job, job_spec
from tests.unit.learner.batches.test_assembler import JOB, group

Fill = Callable[..., None]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    found = Layout(tmp_path)
    model = found.models / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    monkeypatch.setattr(samples, "_decoder", lambda model: lambda token_ids, **_: str(token_ids))
    return found


@pytest.fixture
def fill(client: Client) -> Fill:
    """`fill(spec, [numbers])`: the job, and groups of one trajectory where reward workers would put them."""

    def made(spec: JobSpec, numbers: Sequence[int], *, step: int = 0) -> None:
        if not client.exists(keys.job(JOB)):
            create_job(client, spec)
            streams.prepare(client, JOB)
        put(client, spec, {number: group(number, step) for number in numbers}, step)

    return made


def spec_of(**learner: Any) -> JobSpec:
    settings = {"steps": 4, "batch_size": 2, "checkpoint_every": 2, "max_staleness": 9, "wait_seconds": 5.0}
    settings["mismatch_probe_every"] = 0
    return job_spec(JOB, **{**settings, **learner})

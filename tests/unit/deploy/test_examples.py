"""The example job files are jobs that the API accepts, on data that fits their graders."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from services.api.bodies import accept
from services.api.jobs.create import Known, build
from services.api.schemas.create import CreateJob
from services.api.schemas.job_file import job_schema
from services.cli import job_file
from services.job.datasets import count_rows, iter_rows
from services.job.graders import parse_grader

from .documents import DEPLOY

SCHEMA = Draft202012Validator(job_schema())
EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_job_that_the_api_accepts(path: Path) -> None:
    job = job_file.read(path)
    assert "training_file" in job.uploads
    body = {**job.body, **{field: f"file-{field}" for field in job.uploads}}
    rows = {f"file-{field}": count_rows(data) for field, data in job.uploads.items()}
    known = Known(
        find_model=lambda name: name,
        purpose_of=lambda file_id: "fine-tune",
        rows_of=rows.__getitem__,
        try_grader=lambda block: None,
    )
    record = build(accept(CreateJob, body), known, job_id="ftjob-example", created_at=1, seed=1).record
    grader = parse_grader(record.spec.grader)
    for field, data in job.uploads.items():
        assert len(list(iter_rows(data, data.name, grader=grader, param=field))) == rows[f"file-{field}"] > 0
    assert record.spec.learner.batch_size <= rows["file-training_file"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_the_schema_that_it_names(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    named = path.parent / first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(named.read_text()) == job_schema()
    assert [error.message for error in SCHEMA.iter_errors(job_file.read(path).body)] == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("x_sspo.learner.stepps", 60),
        ("x_sspo.learner.steps", "60"),
        ("x_sspo.learner.steps", 0),
        ("x_sspo.rollout.temperature", 0.0),
        ("x_sspo.rollout.top_p", 0.9),
        ("x_sspo.objective.name", "no_such_objective"),
        ("x_sspo.objective.clip_high", 0.2),
        ("x_sspo.objective.gate", "no_such_gate"),
        ("x_sspo.learner.corrections", {"importance": "squared"}),
        ("x_sspo.guard", {"actions": ["shout"]}),
        ("x_sspo.guard", {"kl_k3": {"enter": 0.1}}),
        ("method.type", "supervised"),
        ("method.reinforcement.grader.operation", "equals"),
        ("method.reinforcement.grader.type", "no_such_type"),
        ("method.reinforcement.hyperparameters", {"n_epochs": "often"}),
        ("model", None),
        ("suffix", "a/b"),
    ],
)
def test_a_bad_job_does_not_fit_the_schema(where: str, value: Any) -> None:
    body = copy.deepcopy(job_file.read(DEPLOY / "examples" / "addition-sspo.yaml").body)
    *parents, last = where.split(".")
    place = body
    for name in parents:
        place = place[name]
    place[last] = value
    assert not SCHEMA.is_valid(body)


def test_auto_is_no_error_to_the_schema() -> None:
    body = copy.deepcopy(job_file.read(DEPLOY / "examples" / "addition-sspo.yaml").body)
    auto = {"n_epochs": "auto", "batch_size": 4, "learning_rate_multiplier": "auto", "eval_samples": None}
    body["method"]["reinforcement"]["hyperparameters"] = auto
    assert SCHEMA.is_valid(body)

"""The example job files are jobs that the API accepts, on data that fits their graders."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.api.jobs.create import Known, build
from services.cli import job_file
from services.job.datasets import count_rows, validate_rows
from services.job.graders import parse_grader

from .documents import DEPLOY

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
    record = build(body, known, job_id="ftjob-example", created_at=1, seed=1).record
    grader = parse_grader(record.spec.grader)
    for field, data in job.uploads.items():
        assert validate_rows(data, data.name, grader=grader, param=field) == rows[f"file-{field}"] > 0
    assert record.spec.learner.batch_size <= rows["file-training_file"]

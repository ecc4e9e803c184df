"""`prepare`: the job file is one that the service accepts, the files it names exist, an earlier demo is replaced."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from typing import Any

import pytest
import yaml

from services.cli.demo import starter
from services.cli.demo.prepare import MODEL, STEPS, Prepared, job_body, prepare
from services.controller.issuing.prompts import PromptEncoder
from services.disk.layout import Layout
from services.job.datasets import count_rows, iter_rows
from services.job.graders import parse_grader
from services.job.spec import ExtensionSpec


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepared over the remains of an earlier demo, with a model that was hardly taught."""
    data = tmp_path_factory.mktemp("data")
    old = Layout(data).models / MODEL / "old.safetensors"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    noise = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(noise):
        patch.setattr(starter, "TARGET", 1e-6)
        found = prepare(data, seed=3, steps=7)
    assert noise.getvalue() == ""  # no library speaks to the user
    return found


def body_of(prepared: Prepared) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load(prepared.job_file.read_text())
    return body


def test_the_model_is_registered_and_the_old_one_is_gone(prepared: Prepared) -> None:
    layout = Layout(prepared.models.parent)
    assert layout.model(MODEL) == prepared.model
    assert layout.model_names() == [MODEL]
    assert not (prepared.model / "old.safetensors").exists()


def test_the_job_file_names_what_lies_beside_it(prepared: Prepared) -> None:
    body = body_of(prepared)
    assert (prepared.job_file.parent / body["validation_file"]) == prepared.validation_file
    assert count_rows(prepared.validation_file) == 512
    assert count_rows(prepared.job_file.parent / body["training_file"]) > 6900


def test_the_job_is_one_that_the_service_accepts(prepared: Prepared) -> None:
    body = body_of(prepared)
    spec = ExtensionSpec(**body["x_sspo"])
    assert (body["seed"], spec.learner.steps) == (3, 7)
    assert spec.objective["sides"] == "outward"
    grader = parse_grader(body["method"]["reinforcement"]["grader"])
    encoder = PromptEncoder(prepared.model, spec.rollout)
    rows = list(iter_rows(prepared.validation_file, "validation.jsonl", grader=grader))
    prompts = [encoder.encode(row) for row in rows[:8]]
    assert {len(prompt) for prompt in prompts} == {8}
    # Three digits and the end.
    assert spec.rollout.max_tokens >= 4
    assert encoder.stop_token_ids


def test_without_steps_the_job_has_the_demos_own() -> None:
    assert job_body(seed=0, steps=STEPS)["x_sspo"]["learner"]["steps"] == STEPS
    assert job_body(seed=0, steps=9)["x_sspo"]["learner"]["steps"] == 9


def test_the_command_starts_without_torch() -> None:
    code = "import sys, services.cli.demo.command; print({'torch', 'transformers'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert found.stdout.strip() == "set()"

"""`GET /v1/x/jobs/{id}/explain` and `sspo job explain`: what the figures of a recorded job mean, over REST."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.disk.layout import Layout
from services.records.step import StepRecord
from services.store.client import Client
from services.store.job.steps import Steps
from services.trajectories.tallies import Tallies

TRACES = Path(__file__).parents[1] / "unit" / "drift" / "traces"


@pytest.fixture
def drifting(create: Callable[..., str], client: Client, layout: Layout) -> str:
    """A job whose engine samples at another temperature, and once had wrong weights."""
    job_id = create()
    for record in json.loads((TRACES / "sampling_temperature.json").read_text()):
        Steps(client, layout).put(job_id, StepRecord.model_validate(record))
    Tallies(client).canary_failed(job_id)
    return job_id


def test_a_job_is_explained(http: httpx.Client, drifting: str) -> None:
    answer = http.get(f"/v1/x/jobs/{drifting}/explain").json()
    assert answer["object"] == "x.explanation"
    found = {finding["name"]: finding for finding in answer["data"]}
    assert {"sampling_temperature", "stale_engine"} <= set(found)
    assert found["sampling_temperature"]["evidence"]["temperature"] == pytest.approx(0.8, abs=0.02)
    assert [finding["severity"] for finding in answer["data"]][:2] == ["error", "error"], "the gravest first"
    assert all(finding["title"] and finding["text"].endswith(".") for finding in answer["data"])


def test_findings_are_series_that_alerts_can_name(http: httpx.Client, drifting: str) -> None:
    page = http.get("/metrics").text
    for name in ("sampling_temperature", "stale_engine"):
        assert f'sspo_finding{{finding="{name}",job_id="{drifting}"}} 1.0' in page
    assert 'finding="waiting"' not in page, "what is only information is no reason to call anybody"


def test_a_job_without_steps_says_what_it_waits_for(http: httpx.Client, create: Callable[..., str]) -> None:
    data = http.get(f"/v1/x/jobs/{create()}/explain").json()["data"]
    assert [finding["name"] for finding in data] == ["waiting"]


def test_an_unknown_job_is_a_404(http: httpx.Client) -> None:
    assert http.get("/v1/x/jobs/ftjob-none/explain").status_code == 404


def test_the_command_prints_severity_title_and_text(url: str, data: Path, drifting: str) -> None:
    (data / "up.json").write_text(json.dumps({"url": url}))
    (data / "api-key").write_text("sk-test")
    run: Callable[..., Any] = CliRunner().invoke
    result = run(app, ["job", "explain", drifting, "--data", str(data)])
    assert result.exit_code == 0, result.output
    assert "[error] The engine samples at another temperature" in result.stdout
    listed = json.loads(run(app, ["job", "explain", drifting, "--json", "--data", str(data)]).stdout)
    assert listed[0]["name"] in ("sampling_temperature", "stale_engine")

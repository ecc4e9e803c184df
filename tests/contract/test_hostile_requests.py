"""Requests that once froze the API, or ended listing and monitoring for everybody."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from services.store import keys
from services.store.client import Client

SLOW_PATTERN = "(?i)" + "[\x01-\U0010fffe]" * 800
"""Valid, within the limit, and takes about ten seconds to compile."""
CALM_SECONDS = 1.0
"""What a look at /healthz may take meanwhile."""


def worst_health(http: httpx.Client, request: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    """The answer to a request, and the longest time that /healthz took while it was under way."""
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(request()))
    thread.start()
    worst = 0.0
    while thread.is_alive():
        started = time.monotonic()
        assert http.get("/healthz", timeout=30).status_code == 200
        worst = max(worst, time.monotonic() - started)
        time.sleep(0.02)
    thread.join()
    return answers[0], worst


@pytest.mark.parametrize("template", ["{" * 65_536, "{{ item.a }}" * 5_000])
def test_a_template_does_not_freeze_the_api(http: httpx.Client, template: str) -> None:
    grader = {"type": "string_check", "name": "g", "input": template, "reference": "1", "operation": "eq"}
    body = {"grader": grader}
    answer, worst = worst_health(http, lambda: http.post("/v1/fine_tuning/alpha/graders/validate", json=body))
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "grader.input"
    assert worst < CALM_SECONDS


def test_a_pattern_that_compiles_for_ever_is_left_to_who_can_be_killed(
    http: httpx.Client, body: dict[str, Any]
) -> None:
    body["method"]["reinforcement"]["grader"] = {
        "type": "regex_match",
        "name": "g",
        "input": "{{ sample.output_text }}",
        "pattern": SLOW_PATTERN,
    }
    started = time.monotonic()
    answer = http.post("/v1/fine_tuning/jobs", json=body, timeout=60)
    assert answer.status_code == 200, answer.text  # nobody tries graders here: the controller will
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize(
    "field", ["x_sspo.learner.weight_decay", "x_sspo.guard.kl_k3.enter", "method.reinforcement.grader.range"]
)
def test_an_infinity_is_refused_and_names_its_field(http: httpx.Client, body: dict[str, Any], field: str) -> None:
    place: dict[str, Any] = body
    *parents, last = field.split(".")
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = "INFINITE"
    text = json.dumps(body).replace('"INFINITE"', "1e999")
    answer = http.post("/v1/fine_tuning/jobs", content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    assert http.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_a_record_that_cannot_be_read_harms_no_other(
    http: httpx.Client, sdk: openai.OpenAI, client: Client, create: Callable[..., str], file_id: str
) -> None:
    bad, good = create(), create()
    spec = json.loads(client.hget(keys.job(bad), "spec") or b"")  # type: ignore[arg-type]
    spec["learner"]["weight_decay"] = None  # what an infinity became
    client.hset(keys.job(bad), "spec", json.dumps(spec))
    assert [job.id for job in sdk.fine_tuning.jobs.list()] == [good]
    assert "sspo_store_up 1.0" in http.get("/metrics").text
    assert f'sspo_learner_step{{job_id="{good}"}}' in http.get("/metrics").text
    other = sdk.files.create(file=("other.jsonl", b"{}\n"), purpose="fine-tune")
    assert sdk.files.delete(other.id).deleted
    kept = http.delete(f"/v1/files/{file_id}")
    assert (kept.status_code, kept.json()["error"]["code"]) == (409, "file_in_use"), "a version that can read it may"
    answer = http.get(f"/v1/fine_tuning/jobs/{bad}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_unreadable")
    assert "weight_decay" in answer.json()["error"]["message"]

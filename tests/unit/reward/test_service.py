from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse

from services.reward.errors import CODES
from services.reward.sandbox import GraderProcess
from services.reward.service import GraderService, respond
from services.store.client import Client
from services.store.grader_requests import GraderReply, GraderRequest, RequestKind, ask

from .conftest import CATASTROPHE, ENDLESS, EQUAL


@pytest.fixture
def process() -> Iterator[GraderProcess]:
    with GraderProcess() as grader_process:
        yield grader_process


def request(kind: RequestKind = "run", left_seconds: float = 10.0, **body: Any) -> GraderRequest:
    return GraderRequest("r", kind, body, time.time() + left_seconds)


def run_body(process: GraderProcess, **body: Any) -> dict[str, Any]:
    status, answer = respond(process, request(**body))
    assert status == 200
    return answer


def errors_of(answer: dict[str, Any]) -> set[str]:
    errors = answer["metadata"]["errors"]
    assert set(CODES) < set(errors)
    return {name for name, value in errors.items() if value}


def test_a_run_answers_with_the_body_of_the_openai_api(process: GraderProcess) -> None:
    answer = run_body(process, grader=EQUAL, model_sample="4", item={"answer": "4"})
    assert GraderRunResponse.model_validate(answer, strict=True).reward == 1.0
    assert answer["sub_rewards"] == {} and answer["metadata"]["type"] == "string_check"
    assert answer["metadata"]["name"] == "equal" and answer["metadata"]["execution_time"] > 0
    assert errors_of(answer) == set() and answer["metadata"]["x_error_detail"] is None


def test_a_missing_field_is_named_in_the_errors_and_gives_no_reward(process: GraderProcess) -> None:
    answer = run_body(process, grader=EQUAL, model_sample="4")
    assert errors_of(answer) == {"invalid_variable_error"} and answer["reward"] == 0.0
    assert "item.answer" in answer["metadata"]["x_error_detail"]
    GraderRunResponse.model_validate(answer, strict=True)


def test_an_endless_grader_is_answered_before_the_askers_deadline(process: GraderProcess) -> None:
    process.start()
    started = time.monotonic()
    body = {"grader": CATASTROPHE, "model_sample": ENDLESS, "item": {}}
    status, answer = respond(process, request(left_seconds=1.5, **body))
    assert time.monotonic() - started < 1.5
    assert status == 200 and errors_of(answer) == {"unresponsive_reward_error"}


def test_validate_answers_with_the_grader(process: GraderProcess) -> None:
    assert respond(process, request("validate", grader=EQUAL)) == (200, {"grader": EQUAL})


def test_validate_refuses_a_pattern_that_does_not_compile(process: GraderProcess) -> None:
    status, answer = respond(process, request("validate", grader={**CATASTROPHE, "pattern": "("}))
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, "grader.pattern", "invalid_grader")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"grader": {**EQUAL, "operation": "equals"}, "model_sample": "4"}, "grader.operation", "invalid_grader"),
        ({"grader": {**CATASTROPHE, "pattern": ""}, "model_sample": "4"}, "grader.pattern", "invalid_grader"),
        ({"grader": {"type": "python"}, "model_sample": "4"}, "grader.type", "invalid_grader"),
        ({"grader": None, "model_sample": "4"}, "grader", "invalid_grader"),
        ({"grader": EQUAL, "model_sample": 4}, "model_sample", "invalid_value"),
        ({"grader": EQUAL, "model_sample": "4", "item": [1]}, "item", "invalid_value"),
    ],
)
def test_a_bad_request_is_a_400_naming_its_field(
    process: GraderProcess, body: dict[str, Any], param: str, code: str
) -> None:
    status, answer = respond(process, request(**body))
    assert status == 400
    assert (answer["error"]["param"], answer["error"]["code"]) == (param, code)
    assert answer["error"]["type"] == "invalid_request_error" and param in answer["error"]["message"]


def test_the_service_answers_others_while_one_request_hangs(client: Client) -> None:
    service = GraderService(client, threads=2)
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(service.run)
        try:
            first = ask(client, "run", {"grader": EQUAL, "model_sample": "4", "item": {"answer": "4"}}, 20.0)
            assert first.status == 200 and first.body["reward"] == 1.0
            slow = {"grader": CATASTROPHE, "model_sample": ENDLESS, "item": {}}
            hanging = pool.submit(ask, client, "run", slow, 4.0)
            time.sleep(0.3)
            started = time.monotonic()
            assert ask(client, "validate", {"grader": EQUAL}, 20.0) == GraderReply(200, {"grader": EQUAL})
            assert time.monotonic() - started < 2.0 and not hanging.done()
            assert errors_of(hanging.result(10).body) == {"unresponsive_reward_error"}
        finally:
            service.stop()
        running.result(15)

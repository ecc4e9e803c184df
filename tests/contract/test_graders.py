"""Grader runs over the SDK: checked by the API, answered by another process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from services.store.client import connect
from services.store.grader_requests import GraderRequest, answer, take

GRADER = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}

Answering = Callable[[Callable[[GraderRequest], tuple[int, dict[str, Any]]]], list[GraderRequest]]


@pytest.fixture
def answering(redis_url: str, url: str) -> Iterator[Answering]:
    """`answering(reply)`: a standing process's side, in a thread; returns the requests it saw."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(reply: Callable[[GraderRequest], tuple[int, dict[str, Any]]]) -> list[GraderRequest]:
        seen: list[GraderRequest] = []

        def loop() -> None:
            client = connect(redis_url)
            while not stop.is_set():
                if request := take(client, block_seconds=0.1):
                    seen.append(request)
                    answer(client, request.request_id, *reply(request))
            client.close()

        threads.append(threading.Thread(target=loop))
        threads[-1].start()
        return seen

    yield start
    stop.set()
    for thread in threads:
        thread.join(10)


def test_a_run_is_answered_by_the_grader_process(sdk: openai.OpenAI, answering: Answering) -> None:
    seen = answering(lambda request: (200, {"reward": 1.0, "sub_rewards": {}, "metadata": {"name": "exact"}}))
    result = sdk.fine_tuning.alpha.graders.run(grader=GRADER, model_sample="4", item={"answer": "4"})
    assert (result.reward, result.metadata.name) == (1.0, "exact")
    assert [(request.kind, request.body) for request in seen] == [
        ("run", {"grader": GRADER, "model_sample": "4", "item": {"answer": "4"}})
    ]


def test_a_validation_is_answered_by_the_grader_process(sdk: openai.OpenAI, answering: Answering) -> None:
    seen = answering(lambda request: (200, {"grader": request.body["grader"]}))
    result = sdk.fine_tuning.alpha.graders.validate(grader=GRADER)
    assert result.grader.name == "exact"
    assert [request.kind for request in seen] == ["validate"]


def test_the_grader_process_may_refuse(sdk: openai.OpenAI, answering: Answering) -> None:
    error = {"message": "item.answer is missing", "type": "invalid_request_error", "param": "item", "code": "x"}
    answering(lambda request: (400, {"error": error}))
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.alpha.graders.run(grader=GRADER, model_sample="4", item={})
    assert refused.value.param == "item"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"grader": {**GRADER, "type": "python"}, "model_sample": "x"}, "grader.type"),
        ({"grader": {**GRADER, "input": "{{ os.environ }}"}, "model_sample": "x"}, "grader.input"),
        ({"grader": GRADER}, "model_sample"),
        ({"grader": GRADER, "model_sample": 4}, "model_sample"),
        ({"model_sample": "x"}, "grader"),
        ({"grader": GRADER, "model_sample": "x", "reference_answer": "4"}, "reference_answer"),
    ],
)
def test_a_bad_run_names_its_field_and_reaches_nobody(
    http: httpx.Client, answering: Answering, body: dict[str, Any], param: str
) -> None:
    seen = answering(lambda request: (200, {}))
    refused = http.post("/v1/fine_tuning/alpha/graders/run", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert seen == []


def test_when_no_grader_process_answers_the_api_says_so_in_time(http: httpx.Client) -> None:
    started = time.monotonic()
    answers: list[httpx.Response] = []
    body = {"grader": GRADER, "model_sample": "x"}
    threads = [
        threading.Thread(target=lambda: answers.append(http.post("/v1/fine_tuning/alpha/graders/run", json=body)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - started < 10
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    codes = sorted(answer.json()["error"]["code"] for answer in answers)
    assert codes == ["grader_busy", "grader_unavailable", "grader_unavailable"]
    assert sum(answer.headers.get("x-should-retry") == "false" for answer in answers) == 2

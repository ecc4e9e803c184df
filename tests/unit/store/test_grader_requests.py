"""Both sides of a grader request, and what happens when one side is missing."""

from __future__ import annotations

import threading
import time

import pytest

from services.store import keys
from services.store.client import Client, CommandRefused
from services.store.grader_requests import GraderReply, GraderRequest, GraderUnavailable, answer, ask, take


def take_soon(client: Client) -> GraderRequest:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if request := take(client, block_seconds=0.5):
            return request
    raise AssertionError("no request came")


def test_an_answer_reaches_its_asker(client: Client) -> None:
    replies: dict[str, GraderReply] = {}

    def asker(name: str) -> None:
        replies[name] = ask(client, "run", {"name": name}, timeout_seconds=10)

    threads = [threading.Thread(target=asker, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for request in [take_soon(client), take_soon(client)]:
        assert request.kind == "run"
        answer(client, request.request_id, 200, {"for": request.body["name"]})
    for thread in threads:
        thread.join(10)
    assert replies == {name: GraderReply(200, {"for": name}) for name in ("a", "b")}
    assert client.xlen(keys.GRADER_REQUESTS) == 0


def test_an_asker_nobody_answers_gives_up_and_leaves_nothing(client: Client) -> None:
    started = time.monotonic()
    with pytest.raises(GraderUnavailable, match=r"0\.3 seconds"):
        ask(client, "validate", {}, timeout_seconds=0.3)
    assert 0.25 < time.monotonic() - started < 3
    assert client.xlen(keys.GRADER_REQUESTS) == 0
    assert take(client) is None
    assert take(client) is None


def test_a_request_whose_asker_is_gone_is_not_taken(client: Client) -> None:
    assert take(client) is None  # makes the consumer group
    entry = {"request_id": "r", "kind": "run", "body": "{}", "deadline": repr(time.time() - 1)}
    client.xadd(keys.GRADER_REQUESTS, entry)  # type: ignore[arg-type]
    assert take(client) is None
    assert client.xlen(keys.GRADER_REQUESTS) == 0


def test_an_answer_that_nobody_fetches_expires(client: Client) -> None:
    answer(client, "r", 400, {"error": {}})
    assert 0 < client.ttl(keys.grader_reply("r")) <= 60


def test_a_request_reaches_its_grader_as_it_was_asked(client: Client) -> None:
    assert take(client) is None  # makes the consumer group
    asked: list[GraderReply] = []
    began = time.time()
    thread = threading.Thread(target=lambda: asked.append(ask(client, "validate", {"n": [1]}, timeout_seconds=20)))
    thread.start()
    request = take_soon(client)
    assert (request.kind, request.body) == ("validate", {"n": [1]})
    assert began + 19 < request.deadline < time.time() + 21
    assert take(client) is None, "one grader takes it"
    answer(client, request.request_id, 400, {"error": "x"})
    answer(client, request.request_id, 200, {"late": True})
    thread.join(10)
    assert asked == [GraderReply(400, {"error": "x"})]


def test_a_request_that_lies_there_before_the_first_grader_comes_is_taken(client: Client) -> None:
    entry = {"request_id": "r", "kind": "run", "body": '{"a": 1}', "deadline": repr(time.time() + 60)}
    client.xadd(keys.GRADER_REQUESTS, entry)  # type: ignore[arg-type]
    assert take(client) is None, "the group is made"
    request = take(client)
    assert request is not None and (request.request_id, request.kind, request.body) == ("r", "run", {"a": 1})
    assert client.xlen(keys.GRADER_REQUESTS) == 0


def test_taking_waits_as_long_as_it_was_told(client: Client) -> None:
    take(client)
    began = time.monotonic()
    assert take(client, block_seconds=0.3) is None
    assert 0.25 < time.monotonic() - began < 3
    began = time.monotonic()
    assert take(client) is None
    assert time.monotonic() - began < 1, "not for ever"


def test_what_else_redis_refuses_is_raised(client: Client) -> None:
    client.set(keys.GRADER_REQUESTS, "no stream")
    with pytest.raises(CommandRefused, match="WRONGTYPE"):
        take(client)

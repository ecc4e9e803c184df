"""Groups that are no groups, in `trajectories`: each goes to `dead`, and harms neither neighbours nor the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from services.store import keys
from services.store.client import Client
from services.trajectories import codec, streams
from services.trajectories.codec import encode
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import DEAD, EVAL_SCORED, EVAL_TRAJECTORIES, SCORED, TRAJECTORIES
from services.trajectories.ledger import Ledger
from services.trajectories.stream_stats import verify_index
from sspo_proto.trajectory_pb2 import Failure
from tests.support import malformed
from tests.support.malformed import BROKEN, CASES, STRANGERS

from .conftest import JOB
from .test_worker import MakeGroup, Running, put, put_evaluation, start, until, wait_for

__all__ = ["start"]


@pytest.fixture(autouse=True)
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", malformed.MOST_BYTES)


def put_case(client: Client, make_group: MakeGroup, case: str) -> None:
    for number in range(3):
        put(client, make_group(number, "4", answer="4"))
    fields = malformed.fields_of(make_group(1, "4", answer="4"), case, JOB, 1)
    if case in STRANGERS:
        malformed.add(client, JOB, TRAJECTORIES, fields)
    else:
        entry = streams.read_after(client, JOB, TRAJECTORIES, "0")[1]
        malformed.replace(client, JOB, TRAJECTORIES, entry, fields)


@pytest.mark.parametrize("case", [case for case in CASES if case != "never issued"])
def test_a_bad_group_is_buried_and_harms_nothing(
    client: Client, start: Callable[..., Running], make_group: MakeGroup, case: str
) -> None:
    put_case(client, make_group, case)
    start()
    groups = {group.task.group_number: group for group in wait_for(client, SCORED, 3)}
    until(lambda: client.xlen(keys.stream(JOB, DEAD)) == 1)
    failed = [number for number, group in groups.items() if group.HasField("failure")]
    assert sorted(groups) == [0, 1, 2] and failed == ([1] if case in BROKEN else [])
    assert all(groups[number].failure.reason == "malformed" for number in failed)
    assert client.xlen(keys.stream(JOB, TRAJECTORIES)) == 0
    [letter], _ = DeadLetters(client).list(JOB)
    assert (letter.reason, letter.found_in) == ("malformed", TRAJECTORIES)
    assert letter.number == (1 if case in BROKEN else None)
    assert json.dumps(DeadLetters(client).get(JOB, letter.id)[1], allow_nan=False)
    assert Ledger(client).snapshot(JOB).balanced and verify_index(client, JOB) == []


def test_a_failure_of_another_job_is_malformed_and_not_believed(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    group = make_group(0)
    group.failure.CopyFrom(Failure(reason="grader_failed"))
    group.task.job_id = "ftjob-other"
    put(client, make_group(0, "4"), payload=encode(group))
    start()
    [passed] = wait_for(client, SCORED, 1)
    assert (passed.failure.reason, passed.task.job_id) == ("malformed", JOB)


def test_a_group_that_its_rewards_make_too_large_becomes_a_typed_failure(
    client: Client, start: Callable[..., Running], make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make_group(0, "4", answer="4")
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", len(group.SerializeToString()) + 5)
    put(client, group)
    start()
    [scored] = wait_for(client, SCORED, 1)
    assert scored.failure.reason == "malformed" and "when scored" in scored.failure.detail


def test_a_bad_group_of_an_evaluation_is_buried_too(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    malformed.add(client, JOB, EVAL_TRAJECTORIES, malformed.fields_of(make_group(0, "4"), "no protobuf", JOB, 0))
    put_evaluation(client, make_group(1, "4", answer="4"))
    start()
    failed, graded = wait_for(client, EVAL_SCORED, 2)
    assert failed.failure.reason == "malformed" and graded.trajectories[0].reward.value == 1.0
    [letter], _ = DeadLetters(client).list(JOB)
    assert letter.found_in == EVAL_TRAJECTORIES

"""Prompts that are no prompts: each goes to `dead`, and harms neither its neighbours nor the ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.store import keys
from services.store.client import Client
from services.trajectories import codec, streams
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import DEAD, EVAL_PROMPTS, EVAL_TRAJECTORIES, PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.ledger import Ledger
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import verify_index
from services.trajectories.tallies import Tallies
from tests.support import malformed
from tests.support.malformed import BROKEN, CASES, STRANGERS

from .bench import JOB, Bench, task_of, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", malformed.MOST_BYTES)


def put(bench: Bench, case: str) -> None:
    """Groups 0, 1, 2, of which the middle one is broken, or has a stranger beside it."""
    for _ in range(3):
        bench.dispatch()
    fields = malformed.fields_of(task_of(1), case, JOB, 1)
    if case in STRANGERS:
        malformed.add(bench.client, JOB, PROMPTS, fields)
    else:
        entry = streams.read_after(bench.client, JOB, PROMPTS, "0")[1]
        malformed.replace(bench.client, JOB, PROMPTS, entry, fields)


@pytest.mark.parametrize("case", [case for case in CASES if case != "never issued"])
async def test_a_bad_prompt_is_buried_and_harms_nothing(bench: Bench, client: Client, case: str) -> None:
    put(bench, case)
    bench.publish(version=1, step=0)
    await until(lambda: len(bench.handed_over()) == 3 and client.xlen(keys.stream(JOB, DEAD)) == 1)
    groups = bench.handed_over()
    failed = [number for number, group in groups.items() if group.HasField("failure")]
    assert failed == ([1] if case in BROKEN else [])
    assert all(groups[number].failure.reason == "malformed" for number in failed)
    assert client.xlen(keys.stream(JOB, PROMPTS)) == 0
    assert await bench.drained() == "drained"
    await bench.stop()
    [letter], _ = DeadLetters(client).list(JOB)
    assert (letter.reason, letter.found_in, letter.number) == (
        "malformed",
        PROMPTS,
        1 if case in BROKEN else None,
    )
    assert json.dumps(DeadLetters(client).get(JOB, letter.id)[1], allow_nan=False)
    assert Ledger(client).snapshot(JOB).balanced and verify_index(client, JOB) == []


async def test_an_oversized_group_becomes_a_typed_failure(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", 1000)
    bench.publish(version=1, step=0)
    large, fine = bench.dispatch(max_tokens=120), bench.dispatch(max_tokens=5)
    await until(lambda: len(bench.handed_over()) == 2)
    failure = bench.handed_over()[large].failure
    assert (failure.reason, failure.code) == ("malformed", "oversized")
    assert len(bench.handed_over()[fine].trajectories) == 2
    await bench.stop()
    [letter], _ = DeadLetters(client).list(JOB)
    assert letter.detail.startswith("oversized: ")
    [failed, _] = sorted(streams.read_after(client, JOB, TRAJECTORIES, "0"), key=lambda entry: entry.number)
    assert failed.tokens == 240, "they were sampled, and are wasted when the number ends"


@pytest.mark.parametrize("number", ["5", "1000"])
async def test_a_stranger_with_a_number_of_others_ends_no_number(bench: Bench, client: Client, number: str) -> None:
    for _ in range(6):
        bench.dispatch()
    moved = Stage(client, JOB, TRAJECTORIES, SCORED, "reward-1")
    stranger = {"job": JOB, "number": number, "step": 0, "payload": b"\xff"}
    malformed.add(client, JOB, PROMPTS, stranger)
    bench.publish(version=1, step=0)
    await until(lambda: client.xlen(keys.stream(JOB, PROMPTS)) == 0)
    taken = [moved.take() for _ in range(6)]
    assert sorted(entry.number for entry in taken if entry) == list(range(6)) and moved.take() is None
    await bench.stop()
    assert not any(group for group in DeadLetters(client).list(JOB)[0] if group.number != int(number))
    assert Tallies(client).read(JOB).dead_letters == {"malformed": 1}


@pytest.mark.parametrize("case", ["no protobuf", "no number"])
async def test_a_bad_evaluation_prompt_is_buried_too(bench: Bench, client: Client, case: str) -> None:
    bench.publish(version=1, step=0)
    malformed.add(client, JOB, EVAL_PROMPTS, malformed.fields_of(task_of(0), case, JOB, 0))
    bench.evaluate(1)
    count = 2 if case in BROKEN else 1
    await until(lambda: len(bench.handed_over(EVAL_TRAJECTORIES)) == count)
    groups = bench.handed_over(EVAL_TRAJECTORIES)
    assert [number for number, group in groups.items() if group.HasField("failure")] == [0][: count - 1]
    await bench.stop()
    [letter], _ = DeadLetters(client).list(JOB)
    assert letter.found_in == EVAL_PROMPTS


async def test_tokens_handed_over_in_vain_and_cut_evaluations_are_counted(
    bench: Bench, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rollout.upkeep.REFRESH_SECONDS", 60.0)
    bench.publish(version=1, step=0)
    bench.dispatch(max_tokens=60)
    await until(lambda: bench.engine.running == 1)
    streams.release_consumer(client, JOB, "rollout-1")
    other: Any = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2")
    [entry] = other.take_over(60)
    await until(lambda: Tallies(client).read(JOB).wasted_tokens == {"lost_lease": 120})
    assert bench.handed_over() == {} and other.hand_over(entry, b"", 0)
    bench.evaluate(0, max_tokens=100)
    await until(lambda: bench.engine.running == 1)
    bench.publish(version=2, step=1)
    await until(lambda: len(bench.handed_over(EVAL_TRAJECTORIES)) == 1)
    assert Tallies(client).read(JOB).wasted_tokens == {"lost_lease": 120, "weights_changed": 100}

"""From `prompts` to `trajectories`: groups that are sampled, and those that can't be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.codec import encode, ints
from services.trajectories.entries import DEAD, PROMPTS, TRAJECTORIES
from services.trajectories.stage import Stage
from tests.support.counted import Counted
from tests.support.fake_engine import REFUSED_TOKEN

from .bench import JOB, Bench, task_of, until

pytestmark = pytest.mark.anyio


async def test_groups_go_from_prompts_to_trajectories(bench: Bench, client: Client, tmp_path: Path) -> None:
    counted = Counted()
    numbers = [bench.dispatch() for _ in range(5)]
    await until(lambda: bench.record and bench.record.state == "starting")
    bench.publish(version=3, step=2)
    await until(lambda: len(bench.handed_over()) == 5)
    assert await bench.drained() == "drained"
    groups = bench.handed_over()
    assert sorted(groups) == numbers
    for trajectory in groups[4].trajectories:
        (span,) = trajectory.version_spans
        assert (span.version, span.step, span.start, span.end) == (3, 2, 0, 5)
    assert groups[4].rollout_worker == "rollout-1"
    assert {entry.step for entry in streams.read_after(client, JOB, TRAJECTORIES, "0")} == {2}
    tokens = sum(len(row.completion_token_ids) // 4 for group in groups.values() for row in group.trajectories)
    assert counted("sspo_rollout_groups_total") == 5
    assert counted("sspo_rollout_completion_tokens_total") == tokens
    assert counted("sspo_weight_sync_seconds_count") == 1 and counted("sspo_weight_sync_bytes_total") > 0
    assert bench.engine.requests[0].seed == 0 and bench.engine.requests[0].stop_token_ids == (2,)
    assert bench.engine.stopped
    assert not list((tmp_path / "weights").glob(".held-*"))


async def test_the_registry_says_what_the_worker_does(bench: Bench) -> None:
    bench.publish(version=1, step=7)
    for _ in range(2):
        bench.dispatch(max_tokens=150)
    await until(lambda: bench.record and bench.record.detail.groups_in_flight == 2)
    record = bench.record
    assert record is not None
    assert (record.state, record.policy_version, record.kind) == ("ready", 1, "rollout")
    assert record.detail.engine_pid == 4711
    assert abs(record.heartbeat - time.time()) < 2
    await until(lambda: bench.record and bench.record.detail.tokens_total == 2 * 2 * 150)


async def test_groups_of_a_dead_worker_are_taken_over(bench: Bench, client: Client) -> None:
    dead = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-0")
    for _ in range(5):
        bench.dispatch()
        assert dead.take() is not None
    bench.publish(version=1, step=0)
    await until(lambda: len(bench.handed_over()) == 5)


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"payload": b"\xff\xff"}, "undecodable"),
        ({"prompt_token_ids": ints([1] * 2000)}, "out_of_bounds"),
        ({"max_tokens": 201}, "out_of_bounds"),
        ({"temperature": 0.0}, "out_of_bounds"),
        ({"prompt_token_ids": ints([REFUSED_TOKEN])}, "request_refused"),
    ],
)
async def test_what_cannot_be_sampled_goes_on_as_malformed(
    bench: Bench, client: Client, broken: dict[str, Any], code: str
) -> None:
    bench.publish(version=1, step=0)
    number, fine = bench.dispatch(**broken), bench.dispatch()
    await until(lambda: len(bench.handed_over()) == 2)
    failure = bench.handed_over()[number].failure
    assert (failure.reason, failure.code) == ("malformed", code)
    assert bench.handed_over()[number].task.group_number == number
    assert len(bench.handed_over()[fine].trajectories) == 2
    await until(lambda: client.xlen(keys.stream(JOB, DEAD)) == 1)


async def test_a_task_of_another_number_is_malformed(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    number = bench.dispatch(payload=encode(task_of(17)))
    await until(bench.handed_over)
    assert bench.handed_over()[number].failure.detail.startswith("group_number")


async def test_a_group_held_at_five_deaths_is_poison(bench: Bench, client: Client) -> None:
    number = bench.dispatch()
    assert Stage(client, JOB, PROMPTS, TRAJECTORIES, "dead-0").take() is not None
    for death in range(1, 5):
        streams.release_consumer(client, JOB, f"dead-{death - 1}")
        (entry,) = Stage(client, JOB, PROMPTS, TRAJECTORIES, f"dead-{death}").take_over(60.0)
        assert entry.deaths == death
    streams.release_consumer(client, JOB, "dead-4")
    bench.publish(version=1, step=0)
    await until(bench.handed_over)
    assert bench.handed_over()[number].failure.reason == "poison"
    assert bench.engine.requests == []

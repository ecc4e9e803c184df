"""Draining: what is in work ends, or goes back."""

from __future__ import annotations

import pytest

from services.store.client import Client
from services.trajectories.entries import PROMPTS, TRAJECTORIES
from services.trajectories.stage import Stage

from .bench import JOB, Bench, until

pytestmark = pytest.mark.anyio


async def test_draining_finishes_what_is_in_work(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    for _ in range(4):
        bench.dispatch(max_tokens=100)
    await until(lambda: bench.engine.running == 2)
    assert await bench.drained() == "drained"
    assert sorted(bench.handed_over()) == [0, 1]
    assert len(bench.engine.requests) == 2


@pytest.mark.parametrize("settings", [{"drain_seconds": 0.2}])
async def test_draining_gives_back_what_takes_too_long(bench: Bench, client: Client) -> None:
    bench.publish(version=1, step=0)
    bench.engine.token_seconds = 1.0
    bench.dispatch()
    await until(lambda: bench.engine.running)
    assert await bench.drained() == "drained"
    assert bench.engine.running == 0
    taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
    assert [(entry.number, entry.deaths) for entry in taken] == [(0, 0)]


async def test_draining_before_weights_are_published_ends_at_once(bench: Bench) -> None:
    assert await bench.drained() == "drained"
    assert bench.engine.loaded == []

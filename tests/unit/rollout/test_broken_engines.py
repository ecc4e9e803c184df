"""Engines that die, hang or take too long end their worker; those that turn keep their leases."""

from __future__ import annotations

import asyncio

import pytest

from services.rollout.engine import EngineBroken
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import PROMPTS, TRAJECTORIES
from services.trajectories.stage import Stage

from .bench import JOB, Bench, until

pytestmark = pytest.mark.anyio


async def test_a_dead_engine_ends_the_worker_and_counts_a_death(bench: Bench, client: Client) -> None:
    bench.publish(version=1, step=0)
    bench.dispatch(max_tokens=200)
    await until(lambda: bench.engine.running)
    bench.engine.broken = EngineBroken("the engine died")
    with pytest.raises(EngineBroken):
        await bench.end()
    assert bench.error_codes == ["EngineBroken"]
    streams.release_consumer(client, JOB, "rollout-1")
    taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
    assert [(entry.number, entry.deaths) for entry in taken] == [(0, 1)]


async def test_an_idle_engine_that_dies_is_noticed(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    await until(lambda: bench.record and bench.record.state == "ready")
    bench.engine.broken = EngineBroken("the engine died")
    with pytest.raises(EngineBroken):
        await bench.end()


async def test_an_engine_that_hangs_ends_the_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.rollout.watch.STALL_SECONDS", 0.5)
    bench.publish(version=1, step=0)
    await until(lambda: bench.record and bench.record.state == "ready")
    bench.engine.hung = True
    with pytest.raises(EngineBroken, match="has not answered"):
        await bench.end()


@pytest.mark.parametrize("settings", [{"wait_seconds": 0.5}])
async def test_a_group_that_takes_too_long_ends_the_worker(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    bench.engine.token_seconds = 5.0
    bench.dispatch()
    with pytest.raises(EngineBroken, match=r"groups \[0\] took longer"):
        await bench.end()


async def test_leases_last_while_the_engine_turns(bench: Bench, client: Client) -> None:
    other = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2")
    bench.publish(version=1, step=0)
    bench.engine.token_seconds = 0.02
    bench.dispatch(max_tokens=75)
    await until(lambda: bench.engine.running)
    while not bench.handed_over():
        assert other.take_over(0.5) == []
        await asyncio.sleep(0.05)

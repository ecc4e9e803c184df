"""Evaluations beside training: their places, and that each is of one version."""

from __future__ import annotations

import pytest

from services.store import keys
from services.store.client import Client
from services.trajectories.entries import EVAL_PROMPTS, EVAL_TRAJECTORIES

from .bench import JOB, Bench, until

pytestmark = pytest.mark.anyio


async def test_an_evaluation_has_a_place_while_training_takes_all_others(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    for _ in range(2):
        bench.dispatch(max_tokens=200)
    await until(lambda: bench.engine.running == 2)
    for row in range(3):
        bench.evaluate(row, max_tokens=10)
    await until(lambda: bench.engine.running == 3)
    assert bench.engine.requests[-1].background and bench.engine.requests[-1].temperature == 0.0
    await until(lambda: len(bench.handed_over(EVAL_TRAJECTORIES)) == 3)
    assert bench.handed_over() == {}


async def test_an_evaluation_takes_no_place_of_training(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    bench.evaluate(0, max_tokens=200)
    await until(lambda: bench.engine.running == 1)
    for _ in range(3):
        bench.dispatch(max_tokens=200)
    await until(lambda: bench.engine.running == 3)


async def test_evaluations_take_all_places_that_training_leaves(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    for row in range(6):
        bench.evaluate(row, max_tokens=30)
    await until(lambda: bench.engine.running == 2)
    await until(lambda: len(bench.handed_over(EVAL_TRAJECTORIES)) == 6)


async def test_an_evaluation_that_spans_two_versions_is_run_again(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    bench.evaluate(5, max_tokens=100)
    await until(lambda: bench.engine.running)
    await until(lambda: bench.engine.tokens > 10)
    bench.publish(version=2, step=1)
    await until(lambda: bench.handed_over(EVAL_TRAJECTORIES))
    (trajectory,) = bench.handed_over(EVAL_TRAJECTORIES)[5].trajectories
    assert [span.version for span in trajectory.version_spans] == [2]
    assert len(bench.engine.requests) == 2


async def test_an_evaluation_whose_streams_are_removed_is_let_go(bench: Bench, client: Client) -> None:
    bench.publish(version=1, step=0)
    bench.evaluate(0, max_tokens=100)
    await until(lambda: bench.engine.running)
    client.delete(keys.stream(JOB, EVAL_PROMPTS))
    await until(lambda: not bench.engine.running)
    number = bench.dispatch()
    await until(lambda: number in bench.handed_over())
    assert bench.handed_over(EVAL_TRAJECTORIES) == {}

"""Waiting for a batch under policy `wait`: nothing in flight becomes stale, and nothing is waited for in vain."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.job.spec import JobSpec
from services.learner.batches import batch_wait
from services.learner.batches.assembler import Assembler
from services.learner.batches.batch_wait import BatchWait, Drops, Nothing, Ready
from services.learner.errors import BatchTimeout
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import steps_in_flight
from tests.support.clock import Clock
from tests.support.tiny import create_job, job_spec
from tests.unit.learner.batches.test_assembler import JOB, group

SECONDS = 0.6


@pytest.fixture
def spec(client: Client) -> JobSpec:
    """Batches of two, at most one step of staleness."""
    made = job_spec(JOB, batch_size=2, max_staleness=1, staleness_policy="wait", wait_seconds=60)
    create_job(client, made)
    streams.prepare(client, JOB)
    return made


def issue(client: Client, number: int, step: int) -> None:
    assert streams.dispatch(client, JOB, number, b"task", step)


def move(client: Client, source: str, target: str, step: int) -> None:
    stage = Stage(client, JOB, source, target, "worker")
    entry = stage.take()
    assert entry is not None and stage.hand_over(entry, group(entry.number, step), step)


def score(client: Client, number: int, step: int) -> None:
    issue(client, number, step)
    move(client, PROMPTS, TRAJECTORIES, step)
    move(client, TRAJECTORIES, SCORED, step)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the wait."""
    made = Clock()
    monkeypatch.setattr(batch_wait, "time", made)
    return made


def waited(client: Client, spec: JobSpec, step: int) -> list[int]:
    """Numbers of the batch of `step`; none when there is none within a moment."""
    wait = BatchWait(spec, client, Assembler(JOB, spec.learner.batch_size, spec.learner.max_staleness))
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = wait.look(step)
        assert not isinstance(found, Drops)
        if isinstance(found, Ready):
            return [scored.number for scored in found.batch.groups]
        time.sleep(0.02)
    return []


@pytest.mark.parametrize("stream", [PROMPTS, TRAJECTORIES])
def test_a_step_waits_for_a_group_that_it_would_make_too_stale(client: Client, spec: JobSpec, stream: str) -> None:
    issue(client, 0, 0)
    if stream == TRAJECTORIES:
        move(client, PROMPTS, TRAJECTORIES, 0)
    stage = Stage(client, JOB, PROMPTS, TRAJECTORIES, "other")
    held = stage.take()
    for number in (1, 2):
        issue(client, number, 1)
        entry = stage.take()
        assert entry is not None and stage.hand_over(entry, group(number, 1), 1)
    scorer = Stage(client, JOB, TRAJECTORIES, SCORED, "scorer")
    old = scorer.take() if stream == TRAJECTORIES else None
    for _ in (1, 2):
        entry = scorer.take()
        assert entry is not None and scorer.hand_over(entry, entry.payload, 1)
    assert waited(client, spec, step=1) == [], "group 0 would be two steps old at step 2"
    if held is not None:
        assert stage.hand_over(held, group(0, 0), 0)
        old = scorer.take()
    assert old is not None and scorer.hand_over(old, group(0, 0), 0)
    assert waited(client, spec, step=1) == [0, 1]


def test_what_is_scored_already_is_not_waited_for(client: Client, spec: JobSpec) -> None:
    for number in range(3):
        score(client, number, 0)
    assert waited(client, spec, step=1) == [0, 1], "waiting would not make group 2 any younger"


def test_a_group_that_moves_on_meanwhile_is_not_missed(
    client: Client, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(client, 0, 0)
    move(client, PROMPTS, TRAJECTORIES, 0)
    old = Stage(client, JOB, TRAJECTORIES, SCORED, "reward-1")
    entry = old.take()
    for number in (1, 2):
        issue(client, number, 1)
        move(client, PROMPTS, TRAJECTORIES, 1)
        move(client, TRAJECTORIES, SCORED, 1)
    look = steps_in_flight

    def moves_right_before_the_last_look(*args: Any) -> Any:
        if args[2] == TRAJECTORIES and entry is not None:
            old.hand_over(entry, group(0, 0), 0)
        return look(*args)

    monkeypatch.setattr(batch_wait, "steps_in_flight", moves_right_before_the_last_look)
    assert waited(client, spec, step=1) == [0, 1]


def test_how_long_a_whole_batch_was_held_back_is_said(client: Client, spec: JobSpec, clock: Clock) -> None:
    wait = BatchWait(spec, client, Assembler(JOB, spec.learner.batch_size, spec.learner.max_staleness))
    issue(client, 0, 0)
    late = Stage(client, JOB, PROMPTS, TRAJECTORIES, "late")
    held = late.take()
    for number in (1, 2):
        score(client, number, 1)
    assert isinstance(wait.look(1), Nothing), "group 0 would be two steps old at step 2"
    clock.sleep(3.0)
    assert held is not None and late.hand_over(held, group(0, 0), 0)
    move(client, TRAJECTORIES, SCORED, 0)
    found = wait.look(1)
    assert isinstance(found, Ready) and found.staleness_seconds == 3.0
    score(client, 3, 2)
    found = wait.look(2)
    assert isinstance(found, Ready) and found.staleness_seconds == 0.0, "the next step begins anew"


def test_a_wait_for_staleness_is_over_halfway_to_the_deadline(client: Client, spec: JobSpec, clock: Clock) -> None:
    learner = spec.learner.model_copy(update={"wait_seconds": 10.0})
    wait = BatchWait(spec.model_copy(update={"learner": learner}), client, Assembler(JOB, 2, 1))
    issue(client, 0, 0)
    assert Stage(client, JOB, PROMPTS, TRAJECTORIES, "hangs").take() is not None
    for number in (1, 2):
        score(client, number, 1)
    assert isinstance(wait.look(1), Nothing)
    clock.sleep(5.0)
    assert isinstance(wait.look(1), Nothing)
    clock.sleep(0.1)
    found = wait.look(1)
    assert isinstance(found, Ready) and [scored.number for scored in found.batch.groups] == [1, 2]


def test_each_step_has_its_own_deadline(client: Client, spec: JobSpec, clock: Clock) -> None:
    learner = spec.learner.model_copy(update={"wait_seconds": 10.0})
    wait = BatchWait(spec.model_copy(update={"learner": learner}), client, Assembler(JOB, 2, 1))
    for step in (0, 1):
        assert isinstance(wait.look(step), Nothing)
        clock.sleep(9.9)
        wait.check_deadline()
    clock.sleep(0.2)
    with pytest.raises(BatchTimeout, match="waited 10 s for step 1: 0 of 2 groups"):
        wait.check_deadline()


def test_drops_do_not_move_the_deadline(client: Client, clock: Clock) -> None:
    spec = job_spec(JOB, batch_size=2, max_staleness=1, wait_seconds=10.0)
    create_job(client, spec)
    streams.prepare(client, JOB)
    wait = BatchWait(spec, client, Assembler(JOB, batch_size=2, max_staleness=1))
    assert isinstance(wait.look(0), Nothing)
    issue(client, 0, 0)
    stage = Stage(client, JOB, PROMPTS, SCORED, "worker")
    entry = stage.take()
    assert entry is not None and stage.hand_over(entry, group(0, failure="grader_failed"), 0)
    clock.sleep(10.1)
    found = wait.look(0)
    assert isinstance(found, Drops) and found.batch.dropped == {"grader_failed": [0]}
    with pytest.raises(BatchTimeout):
        wait.check_deadline()

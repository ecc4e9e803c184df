"""What a job's workers get to do, as the controller's looks give it out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.controller.issuing import supply as supply_module
from services.controller.issuing.capacity import Limit
from services.controller.issuing.supply import Supply
from services.disk.layout import Layout
from services.job.spec import EvaluationSpec, JobSpec
from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import EVAL_PROMPTS, PROMPTS
from services.trajectories.ledger import Ledger
from services.trajectories.progress import ProgressRecord
from services.trajectories.stream_stats import stream_stats
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def spec(client: Client, model_and_rows: None) -> JobSpec:
    """Ten steps of two groups, at most two steps ahead."""
    made = job_spec(JOB, steps=10, batch_size=2, max_staleness=2)
    made = made.model_copy(update={"evaluation": EvaluationSpec(samples=3), "validation_file": "file-2"})
    create_job(client, made)
    streams.prepare(client, JOB)
    return made


@pytest.fixture
def supply(spec: JobSpec, client: Client, tmp_path: Path, pool: ThreadPoolExecutor) -> Supply:
    made = Supply(spec, client, Layout(tmp_path), pool)
    assert made.is_ready in (False, True)
    pool.submit(int).result(10)  # the one before it in the pool makes the dispatcher
    assert made.is_ready
    return made


def issued(client: Client) -> list[int]:
    return [entry.number for entry in streams.read_after(client, JOB, PROMPTS, "0", 9999)]


def test_groups_are_issued_as_far_ahead_as_the_job_allows(supply: Supply, client: Client) -> None:
    room = supply.issue(ProgressRecord(), Ledger(client).snapshot(JOB))
    assert (room.groups, room.limited_by, issued(client)) == (6, Limit.STALENESS, list(range(6)))
    room = supply.issue(ProgressRecord(), Ledger(client).snapshot(JOB))
    assert (room.groups, room.limited_by, len(issued(client))) == (0, Limit.STALENESS, 6)
    supply.issue(ProgressRecord(next_step=1, published_step=1), Ledger(client).snapshot(JOB))
    assert len(issued(client)) == 8
    assert {entry.step for entry in streams.read_after(client, JOB, PROMPTS, "0")} == {0, 1}


def test_the_guard_may_narrow_how_far(supply: Supply, client: Client) -> None:
    supply.issue(ProgressRecord(staleness_window=1), Ledger(client).snapshot(JOB))
    assert len(issued(client)) == 4


def test_lost_groups_are_issued_again_and_count_as_under_way(supply: Supply, client: Client) -> None:
    supply.issue(ProgressRecord(), Ledger(client).snapshot(JOB))
    streams.delete(client, JOB, [PROMPTS])
    ledger = Ledger(client).snapshot(JOB)
    assert ledger.missing == tuple(range(6))
    room = supply.issue(ProgressRecord(), ledger)
    assert room.groups == 0 and issued(client) == list(range(6)), "and none beside them"


def test_a_look_issues_only_so_many(supply: Supply, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply_module, "MOST_DISPATCHED", 2)
    for expected in (2, 4, 6, 6):
        supply.issue(ProgressRecord(), Ledger(client).snapshot(JOB))
        assert len(issued(client)) == expected
    streams.delete(client, JOB, [PROMPTS])
    for expected in (2, 4, 6):
        supply.issue(ProgressRecord(), Ledger(client).snapshot(JOB))
        assert len(issued(client)) == expected


def test_a_wanted_evaluation_goes_on_over_the_looks_and_begins_anew_after_a_pause(
    supply: Supply, client: Client
) -> None:
    wanted = ProgressRecord(evaluation_step=4)
    assert not supply.evaluate(ProgressRecord(), is_manned=True)
    assert supply.evaluate(wanted, is_manned=True) and supply.evaluate(wanted, is_manned=True)
    assert stream_stats(client, JOB)[EVAL_PROMPTS].entries == 3
    [first, *_] = streams.read_after(client, JOB, EVAL_PROMPTS, "0")
    supply.end_evaluation()
    assert supply.evaluate(wanted, is_manned=True)
    assert streams.read_after(client, JOB, EVAL_PROMPTS, "0")[0].id != first.id


def test_an_evaluation_ends_late_only_while_workers_are_wanted(
    supply: Supply, client: Client, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ProgressRecord(evaluation_step=4)
    assert supply.evaluate(wanted, is_manned=True)
    assert supply._evaluation is not None
    monkeypatch.setattr(supply._evaluation, "_deadline_seconds", 1.0)
    time.sleep(1.1)
    assert supply.evaluate(wanted, is_manned=False), "a person has stopped the workers: the clock stands still"
    assert supply.evaluate(wanted, is_manned=True), "and goes on from there"
    time.sleep(1.1)
    assert not supply.evaluate(wanted, is_manned=True)


def test_what_an_earlier_controller_left_is_not_trusted(
    spec: JobSpec, client: Client, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    assert streams.dispatch(client, JOB, 0, b"task", 0)
    client.hset(keys.stream_index(JOB, PROMPTS), "9-9", "7 0 4 0 ")
    supply = Supply(spec, client, Layout(tmp_path), pool)
    assert supply.is_ready in (False, True)
    assert client.exists(keys.stream_index(JOB, PROMPTS)) == 0

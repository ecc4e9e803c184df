"""Events, step records, checkpoints, workers and claims against a real Redis."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import pytest

from services.disk.layout import Layout
from services.records.drift import DriftFigures
from services.records.outcomes import CheckpointRecord, EvaluationRecord
from services.records.step import StepRecord
from services.records.worker import WorkerRecord
from services.store import keys
from services.store.client import Client
from services.store.index import UnknownCursor, new_id
from services.store.job.creations import Claim, Creations
from services.store.job.events import Events
from services.store.job.registry import Registry
from services.store.job.steps import KEPT, Checkpoints, Evaluations, Steps

JOB = "ftjob-1"
OLD, NEW, NEWEST = 1, 2, 3
"""Epochs, to tell lineages by."""


def test_events_page_newest_first_and_follow_oldest_first(client: Client) -> None:
    events = Events(client)
    ids = [events.add(JOB, f"event {number}", data={"number": number}) for number in range(5)]
    page, more = events.list(JOB, limit=2)
    assert [event.id for event in page] == [ids[4], ids[3]]
    assert more is True
    page, more = events.list(JOB, after=ids[3], limit=3)
    assert [event.id for event in page] == [ids[2], ids[1], ids[0]]
    assert more is False
    assert [event.data for event in events.follow(JOB, ids[2])] == [{"number": 3}, {"number": 4}]
    assert [event.id for event in events.follow(JOB)] == ids


def test_an_event_keeps_level_type_and_finite_figures(client: Client) -> None:
    events = Events(client)
    events.add(JOB, "figures", level="warn", type="metrics", data={"loss": math.nan, "step": 3})
    event = events.list(JOB)[0][0]
    assert (event.level, event.type, event.data) == ("warn", "metrics", {"loss": None, "step": 3})
    assert abs(event.created_at - time.time()) < 10


def test_following_waits_for_the_next_event(client: Client) -> None:
    events = Events(client)
    last = events.add(JOB, "first")
    timer = threading.Timer(0.2, lambda: events.add(JOB, "second"))
    timer.start()
    found = events.follow(JOB, last, block_seconds=5)
    timer.join(5)
    assert [event.message for event in found] == ["second"]
    assert events.follow(JOB, found[0].id, block_seconds=0.05) == []


@pytest.mark.parametrize("bad", ["ftevent-", "ftevent-1", "1-1", "ftevent-1-1-1", "$"])
def test_an_event_id_that_is_none_is_refused(client: Client, bad: str) -> None:
    with pytest.raises(UnknownCursor):
        Events(client).list(JOB, after=bad)
    with pytest.raises(UnknownCursor):
        Events(client).follow(JOB, bad)


@pytest.fixture
def steps(client: Client, tmp_path: Path) -> Steps:
    return Steps(client, Layout(tmp_path))


def test_steps_are_ascending_and_the_latest_is_the_one_put_last(steps: Steps) -> None:
    assert (steps.latest(JOB), steps.since(JOB)) == (None, [])
    for step in (0, 1, 2, 10, 11):
        steps.put(JOB, StepRecord(step=step, loss=step / 2, drift=DriftFigures(kl_k3=math.inf)))
    assert [record.step for record in steps.since(JOB)] == [0, 1, 2, 10, 11]
    assert [record.step for record in steps.since(JOB, 2)] == [2, 10, 11]
    assert steps.latest(JOB) == StepRecord(step=11, loss=5.5, drift=DriftFigures(kl_k3=None))


def test_steps_of_a_lineage_that_was_rolled_back_are_not_shown(steps: Steps) -> None:
    for step in range(5):
        steps.put(JOB, StepRecord(step=step, epoch=OLD))
    steps.put(JOB, StepRecord(step=2, epoch=NEW))
    assert [record.epoch for record in steps.since(JOB)] == [OLD, OLD, NEW]
    assert steps.latest(JOB) == StepRecord(step=2, epoch=NEW)


def test_redis_holds_the_newest_steps_and_the_disk_all(steps: Steps, client: Client) -> None:
    for step in range(KEPT + 50):
        steps.put(JOB, StepRecord(step=step, epoch=OLD))
    for step in range(20, KEPT + 90):
        steps.put(JOB, StepRecord(step=step, epoch=NEW))
    assert client.hlen(keys.steps(JOB)) == KEPT + 1
    assert [(r.step, r.epoch) for r in steps.since(JOB)] == [
        (step, OLD if step < 20 else NEW) for step in range(KEPT + 90)
    ]
    assert [record.step for record in steps.since(JOB, KEPT + 80)] == list(range(KEPT + 80, KEPT + 90))
    steps.put(JOB, StepRecord(step=KEPT + 40, epoch=NEWEST))
    newest = steps.newest(JOB, KEPT)
    assert [record.step for record in newest] == list(range(41, KEPT + 41)), "after a rollback too"
    assert [record.epoch for record in newest[-2:]] == [NEW, NEWEST]


def test_a_rollback_during_a_read_leaves_no_hole(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(40):
        steps.put(JOB, StepRecord(step=step, epoch=OLD))
    last = steps._last

    def rolled_back_after(job_id: str) -> int | None:
        found = last(job_id)
        steps.put(JOB, StepRecord(step=5, epoch=NEW))
        return found

    monkeypatch.setattr(steps, "_last", rolled_back_after)
    assert [record.epoch for record in steps.since(JOB)] == [OLD] * 5 + [NEW]


def test_steps_outlive_a_redis_that_forgot_them(steps: Steps, client: Client, tmp_path: Path) -> None:
    for step in range(3):
        steps.put(JOB, StepRecord(step=step, loss=step))
    client.flushall()
    assert [record.step for record in steps.since(JOB)] == [0, 1, 2]
    file = Layout(tmp_path).job(JOB).steps
    file.write_bytes(file.read_bytes() + b'{"step": 3, "lo')  # a learner died in the middle of a line
    steps.put(JOB, StepRecord(step=3, loss=3))
    assert [record.loss for record in steps.since(JOB)] == [0, 1, 2, 3]


def test_steps_are_read_one_at_a_time_in_any_order_of_their_fields(steps: Steps, tmp_path: Path) -> None:
    file = Layout(tmp_path).job(JOB).steps
    file.parent.mkdir(parents=True)
    file.write_text('{"nested":{"step":9},"step":0}\n{"step":1,"nested":{"step":9}}\nno record\n{"step":2}\n')
    each = steps.each(JOB, 1)
    assert next(each) == StepRecord(step=1)
    assert [record.step for record in each] == [2]
    assert [record.step for record in steps.each(JOB)] == [0, 1, 2]


def test_evaluations_and_checkpoints_are_ascending(client: Client) -> None:
    evaluations, checkpoints = Evaluations(client), Checkpoints(client)
    for step in (20, 3, 100):
        evaluations.put(JOB, EvaluationRecord(step=step, reward_mean=0.5))
        checkpoints.put(JOB, CheckpointRecord(step=step, path=f"/{step}", created_at=5))
    assert [record.step for record in evaluations.list(JOB)] == [3, 20, 100]
    checkpoints.remove(JOB, 20)
    assert [(one.step, one.path) for one in checkpoints.list(JOB)] == [(3, "/3"), (100, "/100")]


def test_workers_come_and_go(client: Client) -> None:
    registry = Registry(client)
    values = {"state": "ready", "policy_version": 3, "node": "n", "pid": 7, "heartbeat": 1.5}
    reward = WorkerRecord.model_validate({"id": "reward-0", "kind": "reward", **values})
    rollout = WorkerRecord.model_validate(
        {"id": "rollout-0", "kind": "rollout", "detail": {"engine_pid": 1, "of_another_version": 2}, **values}
    )
    registry.put(JOB, rollout)
    registry.put(JOB, reward)
    assert registry.list(JOB) == [reward, rollout]
    registry.remove(JOB, "reward-0")
    assert registry.list(JOB) == [rollout]
    registry.clear(JOB)
    assert registry.list(JOB) == []


def test_the_first_claim_holds_until_it_is_replaced(client: Client) -> None:
    creations = Creations(client)
    first, second, third = (Claim(f"ftjob-{number}", "hash") for number in range(3))
    assert creations.claim("f", first, keep_seconds=60) == first
    assert creations.claim("f", second, keep_seconds=60) == first
    creations.replace("f", third, keep_seconds=60)
    assert creations.claim("f", second, keep_seconds=60) == third


def test_ids_made_later_sort_later() -> None:
    earlier = new_id("ftjob")
    time.sleep(0.003)
    assert earlier < new_id("ftjob")
    assert len({new_id("ftjob") for _ in range(100)}) == 100


def test_the_newest_step_records_are_read_in_one_look(client: Client, tmp_path: Path) -> None:
    steps = Steps(client, Layout(tmp_path))
    assert steps.newest("j", 3) == []
    for step in (0, 1, 2, 3, 1):  # after step 3 it goes back to step 1
        steps.put("j", StepRecord(step=step, loss=step))
    assert [record.step for record in steps.newest("j", 3)] == [0, 1]
    steps.put("j", StepRecord(step=2, loss=0.5))
    assert [(record.step, record.loss) for record in steps.newest("j", 2)] == [(1, 1.0), (2, 0.5)]


def test_a_claim_lasts_as_long_as_it_was_told(client: Client) -> None:
    creations, claim = Creations(client), Claim("ftjob-1", "hash")
    creations.claim("f", claim, keep_seconds=60)
    assert 50 < client.ttl(keys.created("f")) <= 60
    creations.replace("f", claim, keep_seconds=600)
    assert 590 < client.ttl(keys.created("f")) <= 600


def test_outcomes_of_weights_that_were_undone_are_forgotten(client: Client) -> None:
    evaluations = Evaluations(client)
    evaluations.forget_after(JOB, 0)
    for step in (0, 5, 10):
        evaluations.put(JOB, EvaluationRecord(step=step, reward_mean=math.nan))
    evaluations.forget_after(JOB, 5)
    assert [record.step for record in evaluations.list(JOB)] == [0, 5], "the weights of step 5 are those gone back to"

"""Streams: one entry in one place, leases, take-over, numbers."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from services.store import keys
from services.store.client import Client, connect
from services.trajectories import streams
from services.trajectories.entries import PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.ledger import Ledger
from services.trajectories.outcomes import Fenced
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import steps_in_flight, verify_index
from services.trajectories.tallies import Tallies

JOB = "ftjob-1"


def rollout(client: Client, consumer: str) -> Stage:
    return Stage(client, JOB, PROMPTS, TRAJECTORIES, consumer)


def issue(client: Client, count: int) -> None:
    streams.prepare(client, JOB)
    for number in range(count):
        assert streams.dispatch(client, JOB, number, b"task", 0)


def test_dispatch_is_refused_unless_the_number_is_the_cursor(client: Client) -> None:
    issue(client, 2)
    assert not streams.dispatch(client, JOB, 1, b"again", 0)
    assert not streams.dispatch(client, JOB, 3, b"gap", 0)
    assert streams.cursor(client, JOB) == 2
    assert client.xlen(keys.stream(JOB, PROMPTS)) == 2


def test_hand_over_moves_an_entry_once(client: Client) -> None:
    issue(client, 1)
    stage = rollout(client, "rollout-1")
    entry = stage.take()
    assert entry is not None and (entry.number, entry.payload) == (0, b"task")
    assert stage.hand_over(entry, b"group", step=3)
    assert not stage.hand_over(entry, b"group", step=3)
    assert client.xlen(keys.stream(JOB, PROMPTS)) == 0
    assert steps_in_flight(client, JOB, TRAJECTORIES) == [(0, 3)]


class Died(BaseException):
    """Stands for the end of a process."""


def test_a_consumer_that_dies_at_any_moment_leaves_the_group_in_one_stream(
    client: Client, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies after the first, the second, ... command of a hand-over, until it gets through."""
    for moment in count(1):
        client.flushall()
        issue(client, 1)
        dying = connect(redis_url)
        stage = rollout(dying, "rollout-1")
        entry = stage.take()
        assert entry is not None
        left, answer = [moment - 1], dying.parse_response

        def dies(*args: Any, left: list[int] = left, answer: Any = answer, **options: Any) -> Any:
            found = answer(*args, **options)
            left[0] -= 1
            if left[0] < 0:
                raise Died
            return found

        monkeypatch.setattr(dying, "parse_response", dies)
        with suppress(Died):
            assert stage.hand_over(entry, b"group", 0)
        snapshot = Ledger(client).snapshot(JOB)
        assert snapshot.balanced and sum(snapshot.in_streams.values()) == 1, (moment, snapshot)
        assert verify_index(client, JOB) == []
        if left[0] >= 0:
            return


def test_a_finished_number_is_not_handed_over_again(client: Client) -> None:
    issue(client, 1)
    stage = rollout(client, "rollout-1")
    entry = stage.take()
    assert entry is not None
    Progress(client).finish(JOB, epoch=1, next_step=1, numbers={"trained": [0]}, entry_ids=[])
    assert not stage.hand_over(entry, b"group", step=0)
    assert client.xlen(keys.stream(JOB, PROMPTS)) == client.xlen(keys.stream(JOB, TRAJECTORIES)) == 0


def test_a_dead_consumers_entry_is_taken_over_and_its_death_counted(client: Client) -> None:
    issue(client, 1)
    first, second = rollout(client, "rollout-1"), rollout(client, "rollout-2")
    entry = first.take()
    assert entry is not None
    assert second.take_over(idle_seconds=60) == []
    streams.release_consumer(client, JOB, "rollout-1")
    [taken] = second.take_over(idle_seconds=60)
    assert (taken.number, taken.deaths) == (0, 1)
    assert Tallies(client).read(JOB).redelivered == {PROMPTS: 1}
    assert not first.hand_over(entry, b"late", step=0), "the lease is somebody else's now"
    assert second.hand_over(taken, b"group", step=0)


def test_giving_back_counts_no_death(client: Client) -> None:
    issue(client, 1)
    first, second = rollout(client, "rollout-1"), rollout(client, "rollout-2")
    entry = first.take()
    assert entry is not None
    first.give_back(entry)
    [taken] = second.take_over(idle_seconds=60)
    assert taken.deaths == 0


def test_only_the_owner_refreshes_a_lease(client: Client) -> None:
    issue(client, 1)
    first, second = rollout(client, "rollout-1"), rollout(client, "rollout-2")
    entry = first.take()
    assert entry is not None
    streams.release_consumer(client, JOB, "rollout-1")
    second.refresh([entry.id])
    assert second.take_over(idle_seconds=60), "a stranger's refresh must not have renewed it"
    second.refresh([entry.id])
    assert first.take_over(idle_seconds=0.5) == []


def test_ledger_balances_and_names_what_is_missing(client: Client) -> None:
    issue(client, 4)
    stage = rollout(client, "rollout-1")
    entry = stage.take()
    assert entry is not None and stage.hand_over(entry, b"g", step=0)
    numbers = {"trained": [1], "stale": [2]}
    Progress(client).finish(JOB, epoch=1, next_step=1, numbers=numbers, entry_ids=[])
    snapshot = Ledger(client).snapshot(JOB)
    assert (snapshot.issued, snapshot.trained, snapshot.dropped, snapshot.in_flight) == (4, 1, {"stale": 1}, 2)
    assert snapshot.balanced
    client.delete(keys.stream(JOB, TRAJECTORIES))
    lost = Ledger(client).snapshot(JOB)
    assert lost.missing == (0,) and not lost.balanced


def test_reissue_only_what_is_lost(client: Client) -> None:
    issue(client, 2)
    assert not streams.reissue(client, JOB, 1, b"task", 0), "still in prompts"
    assert not streams.reissue(client, JOB, 2, b"task", 0), "not below the cursor"
    client.delete(keys.stream(JOB, PROMPTS))
    assert streams.reissue(client, JOB, 1, b"task", 0)
    assert not streams.reissue(client, JOB, 1, b"task", 0)
    Progress(client).finish(JOB, epoch=1, next_step=1, numbers={"trained": [0]}, entry_ids=[])
    assert not streams.reissue(client, JOB, 0, b"task", 0), "finished"


def test_finish_is_idempotent_and_removes_entries(client: Client) -> None:
    issue(client, 1)
    stage = rollout(client, "rollout-1")
    entry = stage.take()
    assert entry is not None and stage.hand_over(entry, b"g", step=0)
    reward = Stage(client, JOB, TRAJECTORIES, SCORED, "reward-1")
    graded = reward.take()
    assert graded is not None and reward.hand_over(graded, b"g", step=0)
    [scored] = streams.read_after(client, JOB, SCORED, "0")
    for _ in range(2):
        Progress(client).finish(JOB, epoch=1, next_step=1, numbers={"trained": [0]}, entry_ids=[scored.id])
    snapshot = Ledger(client).snapshot(JOB)
    assert (snapshot.trained, snapshot.in_flight, snapshot.balanced) == (1, 0, True)
    assert client.xlen(keys.stream(JOB, SCORED)) == 0


def test_a_lower_epoch_is_refused_everywhere(client: Client) -> None:
    progress = Progress(client)
    progress.assert_training(JOB, epoch=2, next_step=5, cursor_at_least=7, numbers={"trained": [0, 1]})
    with pytest.raises(Fenced):
        progress.finish(JOB, epoch=1, next_step=6, numbers={"trained": [3]}, entry_ids=[])
    with pytest.raises(Fenced):
        progress.publish(JOB, epoch=1, version=9, step=6, path="/x")
    with pytest.raises(Fenced):
        progress.assert_training(JOB, epoch=1, next_step=0, cursor_at_least=0, numbers={})
    assert Ledger(client).snapshot(JOB).trained == 2
    assert streams.cursor(client, JOB) == 7


def test_the_policy_version_only_grows(client: Client) -> None:
    progress = Progress(client)
    progress.publish(JOB, epoch=1, version=3, step=0, path="/v3")
    progress.publish(JOB, epoch=1, version=3, step=0, path="/v3")  # a repeat whose answer was lost
    with pytest.raises(Fenced):
        progress.publish(JOB, epoch=1, version=3, step=1, path="/other")
    with pytest.raises(Fenced):
        progress.publish(JOB, epoch=1, version=2, step=1, path="/v2")
    record = progress.read(JOB)
    assert (record.policy_version, record.published_path, record.epoch) == (3, "/v3", 0)


def test_an_entry_whose_reading_was_never_answered_comes_back_to_its_reader(client: Client) -> None:
    issue(client, 1)
    lost = rollout(client, "rollout-1").take()
    assert lost is not None
    [again] = rollout(client, "rollout-1").take_over(idle_seconds=0)
    assert (again.id, again.deaths) == (lost.id, 0)


def test_a_removed_stream_holds_nothing_of_ours(client: Client) -> None:
    issue(client, 1)
    stage = rollout(client, "rollout-1")
    entry = stage.take()
    assert entry is not None
    client.delete(keys.stream(JOB, PROMPTS))
    stage.refresh([entry.id])
    stage.give_back(entry)
    assert not stage.hand_over(entry, b"group", step=0)
    assert stage.take_over(idle_seconds=0) == []

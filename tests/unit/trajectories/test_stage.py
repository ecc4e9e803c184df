"""One consumer between two streams: what it takes, what goes on with an entry, and what is counted when it was late."""

from __future__ import annotations

import time

import pytest

from services.store import keys
from services.store.client import Client, CommandRefused, ensure_group
from services.trajectories import streams
from services.trajectories.codec import OversizedMessage
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import (
    CONSUMERS,
    EVAL_PROMPTS,
    EVAL_TRAJECTORIES,
    PROMPTS,
    SCORED,
    TRAJECTORIES,
    Entry,
)
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import stream_stats, verify_index
from services.trajectories.tallies import LOST_LEASE, Tallies

JOB = "ftjob-1"


def rollout(client: Client, consumer: str = "rollout-1") -> Stage:
    return Stage(client, JOB, PROMPTS, TRAJECTORIES, consumer)


def reward(client: Client, consumer: str = "reward-1") -> Stage:
    return Stage(client, JOB, TRAJECTORIES, SCORED, consumer)


def issue(client: Client, count: int) -> None:
    streams.prepare(client, JOB)
    for number in range(count):
        assert streams.dispatch(client, JOB, number, b"task", 0)


def taken(stage: Stage) -> Entry:
    entry = stage.take()
    assert entry is not None
    return entry


def test_entries_are_taken_one_by_one_in_order_and_none_twice(client: Client) -> None:
    issue(client, 3)
    first, second = rollout(client), rollout(client, "rollout-2")
    assert [taken(first).number, taken(second).number, taken(first).number] == [0, 1, 2]
    assert first.take() is None and second.take(0.01) is None
    assert stream_stats(client, JOB)[PROMPTS].pending == 3


def test_a_stream_that_is_not_there_yet_is_made_by_whoever_takes_from_it(client: Client) -> None:
    stage = rollout(client)
    assert stage.take() is None
    assert streams.dispatch(client, JOB, 0, b"task", 0)
    assert taken(stage).number == 0
    ensure_group(client, keys.stream(JOB, PROMPTS), CONSUMERS)
    assert stage.take() is None, "made once: nothing is delivered again"


def test_taking_waits_for_an_entry_as_long_as_it_was_told(client: Client) -> None:
    issue(client, 0)
    began = time.monotonic()
    assert rollout(client).take(0.2) is None
    assert 0.15 < time.monotonic() - began < 3.0


def test_tokens_go_on_with_a_group_and_a_late_one_has_wasted_them(client: Client) -> None:
    issue(client, 1)
    first, second = rollout(client), rollout(client, "rollout-2")
    late = taken(first)
    streams.release_consumer(client, JOB, "rollout-1")
    [again] = second.take_over(60)
    assert second.hand_over(again, b"group", 4, sampled_tokens=7)
    assert not first.hand_over(late, b"group", 3, sampled_tokens=5)
    assert Tallies(client).read(JOB).wasted_tokens == {LOST_LEASE: 5}
    graded = taken(reward(client))
    assert (graded.tokens, graded.step, graded.payload) == (7, 4, b"group")
    assert reward(client).hand_over(graded, b"scored", graded.step)
    [scored] = streams.read_after(client, JOB, SCORED, "0")
    assert (scored.tokens, scored.step, scored.payload) == (7, 4, b"scored"), "grading samples nothing"
    assert Tallies(client).read(JOB).wasted_tokens == {LOST_LEASE: 5}


def test_a_late_grading_wastes_no_tokens(client: Client) -> None:
    issue(client, 1)
    sampled = rollout(client)
    assert sampled.hand_over(taken(sampled), b"group", 0, sampled_tokens=7)
    first = reward(client)
    late = taken(first)
    streams.release_consumer(client, JOB, "reward-1")
    assert len(reward(client, "reward-2").take_over(60)) == 1
    assert not first.hand_over(late, b"scored", 0)
    assert Tallies(client).read(JOB).wasted_tokens == {}, "the group is graded by somebody else"


def test_what_is_not_ours_to_explain_is_raised(client: Client) -> None:
    """A stream that was removed is no error; everything else that Redis refuses is."""
    issue(client, 1)
    stage = rollout(client)
    entry = taken(stage)
    client.set(keys.stream(JOB, PROMPTS), "no stream")
    for use in (
        lambda: stage.take(),
        lambda: stage.take_over(0.0),
        lambda: stage.refresh([entry.id]),
        lambda: stage.hand_over(entry, b"group", 0),
        lambda: stage.give_back(entry),
        lambda: stage.bury(entry, "malformed", "", b""),
        lambda: ensure_group(client, keys.stream(JOB, PROMPTS), CONSUMERS),
    ):
        with pytest.raises(CommandRefused, match="WRONGTYPE"):
            use()


def test_what_is_buried_in_a_removed_stream_is_nobodys(client: Client) -> None:
    issue(client, 1)
    stage = rollout(client)
    entry = taken(stage)
    client.delete(keys.stream(JOB, PROMPTS))
    assert stage.bury(entry, "malformed", "", b"failure") is False


def test_a_message_above_the_size_of_a_message_is_not_sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    issue(client, 1)
    stage = rollout(client)
    entry = taken(stage)
    monkeypatch.setattr("services.trajectories.codec.MAX_MESSAGE_BYTES", 4)
    with pytest.raises(OversizedMessage):
        stage.hand_over(entry, b"12345", 0)
    with pytest.raises(OversizedMessage):
        stage.bury(entry, "malformed", "", b"12345")
    assert stage.hand_over(entry, b"1234", 0)


def test_a_buried_group_leaves_a_letter_and_its_failure_goes_on(client: Client) -> None:
    issue(client, 2)
    stage = rollout(client)
    entry = taken(stage)
    assert stage.bury(entry, "malformed", "no prompt", b"failure")
    assert not stage.bury(entry, "malformed", "no prompt", b"failure"), "it is gone from the stream"
    [letter] = DeadLetters(client).list(JOB)[0]
    assert (letter.number, letter.found_in, letter.reason, letter.detail) == (0, PROMPTS, "malformed", "no prompt")
    [failed] = streams.read_after(client, JOB, TRAJECTORIES, "0")
    assert (failed.number, failed.payload) == (0, b"failure")
    assert Ledger(client).snapshot(JOB).balanced and verify_index(client, JOB) == []


def test_deaths_with_an_evaluations_row_are_counted_apart_from_groups(client: Client) -> None:
    """Row 0 of an evaluation and group 0 have one number, and nothing else in common."""
    issue(client, 1)
    streams.add_evaluation(client, JOB, 0, b"row", 4)
    rows = Stage(client, JOB, EVAL_PROMPTS, EVAL_TRAJECTORIES, "rollout-1")
    assert taken(rows).payload == b"row"
    assert streams.release_consumer(client, JOB, "rollout-1") == 1
    [row] = Stage(client, JOB, EVAL_PROMPTS, EVAL_TRAJECTORIES, "rollout-2").take_over(60)
    assert row.deaths == 1
    first = rollout(client)
    taken(first)
    streams.release_consumer(client, JOB, "rollout-1")
    [group] = rollout(client, "rollout-2").take_over(60)
    assert group.deaths == 1, "the row's death is not the group's"


def test_an_evaluations_row_moves_on_though_a_group_of_its_number_is_finished(client: Client) -> None:
    issue(client, 1)
    streams.add_evaluation(client, JOB, 0, b"row", 4)
    Progress(client).finish(JOB, epoch=1, next_step=1, numbers={"trained": [0]}, entry_ids=[])
    rows = Stage(client, JOB, EVAL_PROMPTS, EVAL_TRAJECTORIES, "rollout-1")
    assert rows.hand_over(taken(rows), b"answer", 4)
    assert [entry.payload for entry in streams.read_after(client, JOB, EVAL_TRAJECTORIES, "0")] == [b"answer"]


def test_a_lease_is_kept_by_refreshing_it(client: Client) -> None:
    issue(client, 2)
    stage, other = rollout(client), rollout(client, "rollout-2")
    kept, lost = taken(stage), taken(stage)
    time.sleep(1.2)
    stage.refresh([kept.id])
    stage.refresh([])
    assert [entry.id for entry in other.take_over(1.0)] == [lost.id]
    assert Tallies(client).read(JOB).redelivered == {PROMPTS: 1}
    assert other.take_over(60) == [] and Tallies(client).read(JOB).redelivered == {PROMPTS: 1}

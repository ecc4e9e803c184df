"""What lies in the streams, and the audit that compares them with their indexes."""

from __future__ import annotations

import time

from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import ALL_STREAMS, EVAL_PROMPTS, PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.ledger import Ledger, LedgerSnapshot
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import StreamStats, forget_index, steps_in_flight, stream_stats, verify_index

JOB = "ftjob-1"


def issue(client: Client, count: int) -> None:
    streams.prepare(client, JOB)
    for number in range(count):
        assert streams.dispatch(client, JOB, number, b"task", 3)


def test_empty_streams_hold_nothing(client: Client) -> None:
    assert stream_stats(client, JOB) == dict.fromkeys(ALL_STREAMS, StreamStats(0, 0, 0.0))
    assert StreamStats(0, 0, 0.0).pending == 0
    assert verify_index(client, JOB) == [] and steps_in_flight(client, JOB, PROMPTS) == []


def test_entries_bytes_age_and_holders_are_counted(client: Client) -> None:
    issue(client, 3)
    assert Stage(client, JOB, PROMPTS, TRAJECTORIES, "a").take() is not None
    time.sleep(0.2)
    found = stream_stats(client, JOB, [PROMPTS])
    assert list(found) == [PROMPTS]
    stats = found[PROMPTS]
    assert (stats.entries, stats.bytes, stats.pending) == (3, 12, 1)
    assert 0.15 < stats.oldest_seconds < 10
    assert steps_in_flight(client, JOB, PROMPTS) == [(0, 3), (1, 3), (2, 3)]


def test_the_audit_names_what_an_index_has_too_little_too_much_and_wrong(client: Client) -> None:
    issue(client, 3)
    assert verify_index(client, JOB) == []
    index = keys.stream_index(JOB, PROMPTS)
    first, second, third = (entry.id for entry in streams.read_after(client, JOB, PROMPTS, "0"))
    client.hdel(index, first)
    client.hset(index, second, "7 3 4 0 ")
    client.hset(index, "9-9", "8 3 4 0 ")
    assert verify_index(client, JOB) == [
        f"prompts {first}: the stream has '0 3 4 0 ', the index None",
        f"prompts {second}: the stream has '1 3 4 0 ', the index '7 3 4 0 '",
        "prompts 9-9: the stream has None, the index '8 3 4 0 '",
    ]
    forget_index(client, JOB)
    assert stream_stats(client, JOB)[PROMPTS].entries == 3, "read from the stream itself"
    assert verify_index(client, JOB) == [] and third


def test_deleting_streams_takes_their_indexes_along_and_nothing_else(client: Client) -> None:
    issue(client, 1)
    streams.add_evaluation(client, JOB, 0, b"row", 4)
    streams.delete(client, JOB, [PROMPTS])
    stats = stream_stats(client, JOB)
    assert (stats[PROMPTS].entries, stats[EVAL_PROMPTS].entries) == (0, 1)
    assert client.exists(keys.stream(JOB, PROMPTS), keys.stream_index(JOB, PROMPTS)) == 0


def test_the_learner_reads_on_from_the_last_entry_it_saw(client: Client) -> None:
    issue(client, 4)
    entries = streams.read_after(client, JOB, PROMPTS, "0")
    assert [entry.number for entry in entries] == [0, 1, 2, 3]
    assert [entry.number for entry in streams.read_after(client, JOB, PROMPTS, entries[1].id)] == [2, 3]
    assert [entry.number for entry in streams.read_after(client, JOB, PROMPTS, "0", count=2)] == [0, 1]
    streams.remove(client, JOB, PROMPTS, [entries[0].id, entries[2].id])
    streams.remove(client, JOB, PROMPTS, [])
    assert [entry.number for entry in streams.read_after(client, JOB, PROMPTS, "0")] == [1, 3]
    assert verify_index(client, JOB) == []


def test_all_that_a_dead_consumer_held_may_be_taken_over_at_once(client: Client) -> None:
    issue(client, 2)
    streams.add_evaluation(client, JOB, 0, b"row", 4)
    for source, target in ((PROMPTS, TRAJECTORIES), (EVAL_PROMPTS, "eval_trajectories")):
        assert Stage(client, JOB, source, target, "rollout-1").take() is not None
    assert streams.release_consumer(client, JOB, "rollout-9") == 0
    assert streams.release_consumer(client, JOB, "rollout-1") == 2


def test_a_ledger_balances_only_if_every_number_is_somewhere(client: Client) -> None:
    issue(client, 2)
    snapshot = Ledger(client).snapshot(JOB)
    assert snapshot == LedgerSnapshot(2, 0, {}, 2, {PROMPTS: 2, TRAJECTORIES: 0, SCORED: 0}, ())
    assert snapshot.balanced
    assert not LedgerSnapshot(2, 0, {}, 1, {}, ()).balanced, "one is neither finished nor found"
    assert not LedgerSnapshot(2, 1, {"stale": 1}, 1, {}, ()).balanced, "one is finished and still there"
    assert not LedgerSnapshot(2, 1, {"stale": 1}, 0, {}, (0,)).balanced
    assert LedgerSnapshot(4, 1, {"stale": 1, "malformed": 1}, 1, {}, ()).balanced

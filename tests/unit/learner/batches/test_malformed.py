"""Groups that are no groups, in `scored`: each goes to `dead`, and harms neither its neighbours nor the ledger."""

from __future__ import annotations

import json
import time

import pytest

from services.learner.batches.assembler import Assembler, Batch
from services.learner.batches.batch_wait import BatchWait, Nothing, Ready
from services.store import keys
from services.store.client import Client
from services.trajectories import codec, streams
from services.trajectories.codec import decode_group
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import verify_index
from services.trajectories.tallies import Tallies
from tests.support import malformed
from tests.support.malformed import BROKEN, CASES, STRANGERS
from tests.support.tiny import create_job, job_spec

from .test_assembler import JOB, group

TOKENS = 2
"""Completion tokens of a group."""


@pytest.fixture(autouse=True)
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", malformed.MOST_BYTES)


def put(client: Client, number: int, payload: bytes) -> None:
    """Dispatch, sample and grade a group, as the stages before do."""
    assert streams.dispatch(client, JOB, number, b"task", 0)
    rollout, reward = Stage(client, JOB, PROMPTS, TRAJECTORIES, "a"), Stage(client, JOB, TRAJECTORIES, SCORED, "b")
    prompt = rollout.take()
    assert prompt is not None and rollout.hand_over(prompt, payload, 0, sampled_tokens=TOKENS)
    sampled = reward.take()
    assert sampled is not None and reward.hand_over(sampled, payload, 0)


class Trainer:
    """Reads batches as the learner does, and finishes them in Redis without training."""

    def __init__(self, client: Client, batch_size: int, vocab_size: int = 0) -> None:
        self.client = client
        self.wait = BatchWait(
            job_spec(JOB, batch_size=batch_size, wait_seconds=2.0),
            client,
            Assembler(JOB, batch_size, max_staleness=2, vocab_size=vocab_size),
        )
        self.dropped: dict[str, list[int]] = {}

    def step(self) -> list[int]:
        """The numbers of the next batch."""
        while True:
            found = self.wait.look(0)
            if not isinstance(found, Nothing):
                self.settle(found.batch)
            if isinstance(found, Ready):
                return [scored.number for scored in found.batch.groups]
            time.sleep(0.02)

    def settle(self, batch: Batch) -> None:
        self.dropped |= batch.dropped
        trained = [scored.number for scored in batch.groups]
        Progress(self.client).finish(
            JOB, epoch=1, next_step=1, numbers={"trained": trained, **batch.dropped}, entry_ids=batch.entry_ids
        )


@pytest.fixture
def prepared(client: Client) -> Client:
    create_job(client, job_spec(JOB))
    streams.prepare(client, JOB)
    for number in range(3):
        put(client, number, group(number))
    return client


@pytest.mark.parametrize("case", CASES)
def test_a_bad_group_is_buried_and_harms_nothing(prepared: Client, case: str) -> None:
    fields = malformed.fields_of(decode_group(group(1)), case, JOB, 1)
    if case in STRANGERS:
        malformed.add(prepared, JOB, SCORED, fields)
    else:
        malformed.replace(prepared, JOB, SCORED, streams.read_after(prepared, JOB, SCORED, "0")[1], fields)
    trained = [0, 1, 2] if case in STRANGERS else [0, 2]
    trainer = Trainer(prepared, len(trained))
    assert trainer.step() == trained
    assert trainer.dropped == ({} if case in STRANGERS else {"malformed": [1]})
    [letter], _ = DeadLetters(prepared).list(JOB)
    assert (letter.reason, letter.found_in) == ("malformed", SCORED)
    assert letter.number == (1 if case in BROKEN else 1000 if case == "never issued" else None)
    assert json.dumps(DeadLetters(prepared).get(JOB, letter.id)[1], allow_nan=False)
    snapshot = Ledger(prepared).snapshot(JOB)
    assert snapshot.balanced and snapshot.in_flight == 0 and prepared.xlen(keys.stream(JOB, SCORED)) == 0
    assert verify_index(prepared, JOB) == []


@pytest.mark.parametrize("late", [False, True])
def test_a_stranger_with_the_number_of_another_ends_nothing(prepared: Client, late: bool) -> None:
    """Whether the genuine group comes before it or after it."""
    fields = malformed.fields_of(decode_group(group(1)), "no protobuf", JOB, 1)
    malformed.add(prepared, JOB, SCORED, fields)
    if late:
        [_, genuine, *_] = streams.read_after(prepared, JOB, SCORED, "0")
        again = {"job": JOB, "number": 1, "step": 0, "payload": genuine.payload}
        malformed.replace(prepared, JOB, SCORED, genuine, again)
    trainer = Trainer(prepared, 3)
    assert sorted(trainer.step()) == [0, 1, 2] and trainer.dropped == {}
    assert len(DeadLetters(prepared).list(JOB)[0]) == 1


def test_a_learner_that_dies_before_it_settles_buries_once(prepared: Client) -> None:
    bad = malformed.fields_of(decode_group(group(1)), "newer schema", JOB, 1)
    malformed.replace(prepared, JOB, SCORED, streams.read_after(prepared, JOB, SCORED, "0")[1], bad)
    for _ in range(2):
        Trainer(prepared, 2).wait._read()
    assert len(DeadLetters(prepared).list(JOB)[0]) == 1
    assert Ledger(prepared).snapshot(JOB).balanced, "the number is found until it is finished"
    trainer = Trainer(prepared, 2)
    assert trainer.step() == [0, 2] and trainer.dropped == {"malformed": [1]}


def test_a_token_that_the_model_does_not_have_never_reaches_it(prepared: Client) -> None:
    put(prepared, 3, group(3))
    trainer = Trainer(prepared, 4, vocab_size=6)
    assert trainer.step() == [0, 1, 2, 3]
    put(prepared, 4, group(4))
    small = Trainer(prepared, 1, vocab_size=5)
    small.wait._read()
    assert small.wait._assembler.assemble(0).dropped == {"malformed": [4]}


def test_tokens_of_dropped_groups_and_duplicates_are_wasted_and_trained_ones_are_not(prepared: Client) -> None:
    put(prepared, 3, group(3, failure="grader_failed"))
    duplicate = {"job": JOB, "number": 0, "step": 0, "tokens": 7, "payload": group(0)}
    malformed.add(prepared, JOB, SCORED, duplicate)
    trainer = Trainer(prepared, 3)
    assert trainer.step() == [0, 1, 2] and trainer.dropped == {"grader_failed": [3]}
    for _ in range(2):
        assert Tallies(prepared).read(JOB).wasted_tokens == {"duplicate": 7, "grader_failed": TOKENS}
        trainer.settle(Batch(dropped={"grader_failed": [3]}))


def test_what_a_dead_learner_had_committed_leaves_the_stream_and_is_counted_once(prepared: Client) -> None:
    numbers = {"trained": [0], "stale": [1]}
    for _ in range(2):
        Progress(prepared).assert_training(JOB, epoch=1, next_step=1, cursor_at_least=3, numbers=numbers)
        assert [entry.number for entry in streams.read_after(prepared, JOB, SCORED, "0")] == [2]
        assert Tallies(prepared).read(JOB).wasted_tokens == {"stale": TOKENS}
    assert Ledger(prepared).snapshot(JOB).balanced and verify_index(prepared, JOB) == []

"""The journal first, then Redis, and neither once a newer learner was here."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.journal.errors import JournalDamaged
from services.journal.journal import Draft, Journal
from services.journal.record import Header
from services.learner.batches.assembler import Batch, ScoredGroup
from services.learner.recovery.books import Books
from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.ledger import Ledger
from services.trajectories.outcomes import Fenced
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from sspo_proto.trajectory_pb2 import Group
from tests.support.tiny import job_spec

JOB = "ftjob-1"
SETTINGS = {"learner": {"learning_rate": 0.5}}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "journal")
    made.claim_epoch()
    return made


@pytest.fixture
def books(client: Client, journal: Journal) -> Books:
    """Of a learner that has said what its journal holds, with four groups issued and scored."""
    streams.prepare(client, JOB)
    rollout, reward = Stage(client, JOB, PROMPTS, TRAJECTORIES, "a"), Stage(client, JOB, TRAJECTORIES, SCORED, "b")
    for number in range(4):
        assert streams.dispatch(client, JOB, number, b"task", 0)
        for stage in (rollout, reward):
            entry = stage.take()
            assert entry is not None and stage.hand_over(entry, b"group %d" % number, 0)
    made = Books(job_spec(JOB), client, journal)
    made.read()
    made.assert_training()
    return made


def batch(client: Client, *trained: int, **dropped: list[int]) -> Batch:
    """A batch of these numbers, with the entries that are settled by it."""
    entries = {entry.number: entry for entry in streams.read_after(client, JOB, SCORED, "0")}
    groups = [ScoredGroup(n, 0, entries[n].payload, Group(), entries[n].id) for n in trained]
    settled = [*trained, *(n for numbers in dropped.values() for n in numbers)]
    return Batch(groups, dropped, [entries[n].id for n in settled if n in entries])


def left(client: Client) -> list[int]:
    return [entry.number for entry in streams.read_after(client, JOB, SCORED, "0")]


def test_a_batch_is_committed_and_then_finished(client: Client, books: Books, journal: Journal) -> None:
    header = books.commit(batch(client, 2, 0, stale=[1]), 0, 3, SETTINGS)
    record = journal.read(0)
    assert record.header == header and record.payloads == [b"group 2", b"group 0"]
    assert (header.kind, header.step, header.trained, header.dropped) == ("step", 0, [2, 0], {"stale": [1]})
    assert (header.cursor, header.policy_version, header.settings) == (4, 3, SETTINGS)
    assert left(client) == [3]
    known = Progress(client).read(JOB)
    assert (known.epoch, known.next_step) == (1, 1)
    snapshot = Ledger(client).snapshot(JOB)
    assert (snapshot.trained, snapshot.dropped, snapshot.in_flight) == (2, {"stale": 1}, 1) and snapshot.balanced
    assert (books.next_step, books.newest_version, sorted(books.finished())) == (1, 3, [0, 1, 2])


def test_drops_alone_are_a_record_without_a_step(client: Client, books: Books) -> None:
    header = books.commit(batch(client, stale=[1]), 0, 0, SETTINGS)
    assert (header.kind, header.trained, header.settings) == ("drop", [], {}), "nothing is trained with them"
    assert Progress(client).read(JOB).next_step == 0 == books.next_step
    assert left(client) == [0, 2, 3]


def test_a_learner_that_is_replaced_before_its_commit_commits_nothing(
    client: Client, books: Books, journal: Journal
) -> None:
    Journal(journal.folder).claim_epoch()
    with pytest.raises(Fenced):
        books.commit(batch(client, 0), 0, 0, SETTINGS)
    assert list(Journal(journal.folder).headers()) == [] and left(client) == [0, 1, 2, 3]


def test_a_learner_that_is_replaced_after_its_commit_tells_redis_nothing(
    client: Client, books: Books, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis may have forgotten the newer epoch with its tail: the disk has not."""
    commit = journal.commit

    def then_another_claims(draft: Draft) -> Header:
        header = commit(draft)
        Journal(journal.folder).claim_epoch()
        return header

    monkeypatch.setattr(journal, "commit", then_another_claims)
    with pytest.raises(Fenced):
        books.commit(batch(client, 0), 0, 0, SETTINGS)
    assert left(client) == [0, 1, 2, 3] and Ledger(client).snapshot(JOB).trained == 0


def test_a_learner_that_is_replaced_asserts_nothing(client: Client, books: Books, journal: Journal) -> None:
    Journal(journal.folder).claim_epoch()
    client.delete(keys.progress(JOB))
    with pytest.raises(Fenced):
        books.assert_training()
    assert Progress(client).read(JOB).epoch == 0


def test_what_redis_forgot_is_told_from_the_journal(client: Client, books: Books, journal: Journal) -> None:
    books.commit(batch(client, 0, 1), 0, 2, SETTINGS)
    books.commit(batch(client, 2, stale=[3]), 1, 3, SETTINGS)
    client.flushall()
    again = Books(job_spec(JOB), client, Journal(journal.folder))
    again.journal.claim_epoch()
    again.read()
    assert (again.next_step, again.newest_version) == (2, 3)
    again.assert_training()
    snapshot = Ledger(client).snapshot(JOB)
    assert (snapshot.issued, snapshot.trained, snapshot.dropped) == (4, 3, {"stale": 1}) and snapshot.balanced
    assert (Progress(client).read(JOB).next_step, Progress(client).read(JOB).epoch) == (2, 2)


def test_a_cursor_that_redis_lost_never_falls_behind_what_is_settled(client: Client, books: Books) -> None:
    found = batch(client, 3, stale=[2])
    client.set(keys.cursor(JOB), 1)
    assert books.commit(found, 0, 0, SETTINGS).cursor == 4
    client.set(keys.cursor(JOB), 9)
    assert books.commit(batch(client, 0), 1, 0, SETTINGS).cursor == 9


def test_a_journal_that_lost_records_is_never_a_fresh_start(client: Client, books: Books, journal: Journal) -> None:
    books.commit(batch(client, 0), 0, 0, SETTINGS)
    books.commit(batch(client, 1), 1, 0, SETTINGS)
    Books(job_spec(JOB), client, Journal(journal.folder)).read()
    (journal.folder / "00000001.rec").unlink()
    with pytest.raises(JournalDamaged, match="Redis knows of 0 records and 2 steps, the journal holds 1 and 1"):
        Books(job_spec(JOB), client, Journal(journal.folder)).read()
    Progress(client).assert_training(JOB, epoch=1, next_step=1, cursor_at_least=0, numbers={})
    Books(job_spec(JOB), client, Journal(journal.folder)).read()
    Progress(client).set(JOB, records=2)
    with pytest.raises(JournalDamaged, match="2 records"):
        Books(job_spec(JOB), client, Journal(journal.folder)).read()


def test_a_rollback_is_not_taken_for_lost_steps(client: Client, books: Books, journal: Journal) -> None:
    books.commit(batch(client, 0), 0, 0, SETTINGS)
    books.commit(batch(client, 1), 1, 0, SETTINGS)
    cut = books.go_back(Draft(kind="rollback", step=0, cursor=4, dropped={"rolled_back": [0, 1]}))
    assert (cut.sequence, books.next_step) == (2, 0)
    again = Books(job_spec(JOB), client, Journal(journal.folder))
    again.read()
    assert [outline.kind for outline in again.outlines] == ["step", "step", "rollback"]


def test_a_redis_that_may_have_forgotten_is_told_again(client: Client, books: Books) -> None:
    progress = Progress(client)
    assert not books.forgotten_by(progress.read(JOB), 0)
    assert books.forgotten_by(progress.read(JOB), 1), "of a step that was finished"
    client.hset(keys.progress(JOB), "asserted_run", "a run that is over")
    assert books.forgotten_by(progress.read(JOB), 0)
    books.assert_training()
    progress.assert_training(JOB, epoch=7, next_step=0, cursor_at_least=0, numbers={})
    assert books.forgotten_by(progress.read(JOB), 0), "told by another learner"

"""The way to where the journal ends, and around a record that ends its learners."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.journal.errors import JournalDamaged
from services.journal.journal import Draft, Journal
from services.learner.backend import TrainingState
from services.learner.errors import TooManySkips
from services.learner.recovery.attempts import MOST_ATTEMPTS, Attempts
from services.learner.recovery.books import Books
from services.learner.recovery.checkpoint import Stored
from services.learner.recovery.restore import MOST_SKIPS, counts_in, cut_draft, plan, skip
from services.store.client import Client
from tests.support.tiny import job_spec


class Job:
    """A journal of steps with one group each, and the marks of attempts."""

    def __init__(self, client: Client, root: Path) -> None:
        self.journal = Journal(root / "journal")
        self.journal.claim_epoch()
        self.books = Books(job_spec("ftjob-1"), client, self.journal)
        self.attempts = Attempts(self.journal)
        self.numbers = 0

    def train(self, step: int) -> int:
        """Commit a step; answers its sequence."""
        draft = Draft(kind="step", step=step, cursor=self.numbers + 1, groups=[(self.numbers, b"group")])
        self.numbers += 1
        return self.books.go_back(draft).sequence

    def kill(self, sequence: int, times: int, cause: str = "") -> None:
        for attempt in range(1, times + 1):
            self.journal.attempt_path(sequence, attempt).write_text(cause)


@pytest.fixture
def job(client: Client, tmp_path: Path) -> Job:
    made = Job(client, tmp_path)
    for step in range(4):
        made.train(step)
    return made


def test_the_records_behind_the_checkpoint_are_replayed_in_order(job: Job) -> None:
    assert (plan(job.books, 0, job.attempts).replay, plan(job.books, 0, job.attempts).killer) == ([0, 1, 2, 3], None)
    assert plan(job.books, 2, job.attempts).replay == [2, 3]
    assert plan(job.books, 4, job.attempts).replay == []
    with pytest.raises(JournalDamaged, match="has 5 steps and the journal only 4"):
        plan(job.books, 5, job.attempts)


def test_a_record_is_tried_three_times_and_then_skipped_with_what_lies_behind_it(job: Job) -> None:
    job.kill(2, MOST_ATTEMPTS - 1)
    assert plan(job.books, 1, job.attempts).killer is None
    job.kill(2, MOST_ATTEMPTS, "out_of_memory")
    ahead = plan(job.books, 1, job.attempts)
    assert list(ahead.replay) == [1] and ahead.killer is not None
    header = skip(job.books, ahead.killer, job.attempts)
    assert (header.kind, header.step, header.cursor) == ("skip", 2, 4)
    assert header.dropped == {"poison": [2], "rolled_back": [3]} and header.causes == ["out_of_memory"] * 3
    assert job.books.next_step == 2 and job.attempts.causes(2) == []
    assert list(plan(job.books, 0, job.attempts).replay) == [0, 1]


def test_a_record_that_ended_learners_before_the_checkpoint_does_not_matter(job: Job) -> None:
    job.kill(1, MOST_ATTEMPTS)
    assert plan(job.books, 2, job.attempts).killer is None


def test_too_many_skips_in_a_row_are_not_the_records_fault(job: Job) -> None:
    for skipped in range(MOST_SKIPS + 1):
        sequence = job.train(4)
        job.kill(sequence, MOST_ATTEMPTS, "out_of_memory" if skipped == MOST_SKIPS else "")
        ahead = plan(job.books, 4, job.attempts)
        assert ahead.killer is not None
        if skipped < MOST_SKIPS:
            assert skip(job.books, ahead.killer, job.attempts).causes == ["killed"] * 3
    with pytest.raises(TooManySkips, match=r"3 records in a row .* ended 3 learners too") as too_many:
        skip(job.books, ahead.killer, job.attempts)
    assert too_many.value.code == "out_of_memory"
    assert job.attempts.causes(sequence) == [], "whoever resumes the job tries again"
    job.kill(sequence, MOST_ATTEMPTS)
    ahead = plan(job.books, 4, job.attempts)
    assert ahead.killer is not None
    with pytest.raises(TooManySkips) as killed:
        skip(job.books, ahead.killer, job.attempts)
    assert killed.value.code == "learner_crash_loop", "nobody could say why"


def test_a_rollback_names_what_it_undoes_and_the_newest_version(job: Job) -> None:
    draft = cut_draft(job.books.outlines, to_step=1, settings={"guard": 1}, policy_version=9)
    assert (draft.kind, draft.step, draft.cursor, draft.policy_version) == ("rollback", 1, 4, 9)
    assert draft.dropped == {"poison": (), "rolled_back": [1, 2, 3]} and draft.settings == {"guard": 1}
    job.books.go_back(Draft(kind="drop", step=4, cursor=4, policy_version=12))
    assert cut_draft(job.books.outlines, to_step=1, policy_version=9).policy_version == 12
    assert cut_draft(job.books.outlines, to_step=1).policy_version == 12


def test_a_checkpoint_counts_until_a_cut_goes_back_behind_it(job: Job) -> None:
    def checkpoint(step: int, sequence: int) -> Stored:
        return Stored(Path("x"), TrainingState(next_step=step), sequence, {})

    assert counts_in(job.books.outlines)(checkpoint(3, 2))
    job.books.go_back(cut_draft(job.books.outlines, to_step=2))
    counts = counts_in(job.books.outlines)
    assert not counts(checkpoint(3, 2)) and counts(checkpoint(2, 1))
    job.train(2)
    assert counts_in(job.books.outlines)(checkpoint(3, 5)), "trained anew"

"""Marks of attempts: one while it lasts, none after it went well, and how it ended when it did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.journal.journal import Journal
from services.learner.errors import AttemptFailed, OutOfMemory, TrainingDiverged
from services.learner.recovery.attempts import Attempts


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    return Attempts(Journal(tmp_path))


def test_attempts_that_did_not_survive_are_counted_until_one_does(attempts: Attempts) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), attempts.attempt(3):
            assert len(attempts.causes(3)) >= 1, "the mark is there while it lasts"
            raise KeyboardInterrupt  # nothing is written any more, as after SIGKILL
    assert attempts.causes(3) == ["killed", "killed"] and attempts.causes(4) == []
    with attempts.attempt(3):
        pass
    assert attempts.causes(3) == []


@pytest.mark.parametrize(
    ("error", "cause", "raised"),
    [
        (OutOfMemory("the model does not fit into memory"), "out_of_memory", AttemptFailed),
        (TrainingDiverged("too many"), "training_diverged", TrainingDiverged),
        (IndexError("a bug"), "IndexError", IndexError),
    ],
)
def test_the_cause_is_told_apart(attempts: Attempts, error: Exception, cause: str, raised: type[Exception]) -> None:
    with pytest.raises(raised), attempts.attempt(0):
        raise error
    assert attempts.causes(0) == [cause]


def test_two_learners_mark_the_same_record_apart(attempts: Attempts) -> None:
    with pytest.raises(KeyboardInterrupt), attempts.attempt(0), attempts.attempt(0):
        assert len(attempts.causes(0)) == 2
        raise KeyboardInterrupt

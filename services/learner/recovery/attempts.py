"""Records that end their learner: each attempt to train one leaves a mark while it lasts.

A mark is `journal/<sequence>.attempt.<n>`, made exclusively before training and removed after it. So a mark that a new
learner finds is of an attempt that its learner did not survive. It says how the attempt ended; "killed" if nobody could
write the reason. Marks are not synced: a power cut is not the fault of a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from services.journal.journal import Journal
from services.learner.errors import FATAL, AttemptFailed, OutOfMemory

MOST_ATTEMPTS = 3
"""A record that ended so many learners is skipped. More than one accident (a kill from outside) to the same record."""
KILLED = "killed"


class Attempts:
    """The marks of one journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def causes(self, sequence: int) -> list[str]:
        """Ends of the attempts to train this record since the last one that went well."""
        causes: list[str] = []
        while (path := self._journal.attempt_path(sequence, len(causes) + 1)).exists():
            causes.append(path.read_text().strip() or KILLED)
        return causes

    @contextmanager
    def attempt(self, sequence: int) -> Iterator[None]:
        """Mark an attempt while it lasts. Raises AttemptFailed for one that ran out of memory."""
        path = self._mark(sequence)
        try:
            yield
        except OutOfMemory as error:  # not yet the job's end: another learner may have more
            path.write_text(error.code)
            raise AttemptFailed(f"record {sequence} ran out of memory: {error}") from error
        except FATAL as error:
            path.write_text(error.code)
            raise
        except Exception as error:
            path.write_text(type(error).__name__)
            raise
        self.clear(sequence)

    def _mark(self, sequence: int) -> Path:
        for n in count(1):
            path = self._journal.attempt_path(sequence, n)
            try:
                path.open("x").close()
            except FileExistsError:
                continue
            return path
        raise AssertionError("count() has no end")

    def clear(self, sequence: int) -> None:
        """Forget the attempts, the last one first: an interruption must not leave a gap that hides the rest."""
        for n in range(len(self.causes(sequence)), 0, -1):
            self._journal.attempt_path(sequence, n).unlink(missing_ok=True)

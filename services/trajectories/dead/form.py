"""The form of a dead letter, as the Lua calls that bury write it, and of the wish to have one issued anew.

Invariant: `dead` is bounded by count and bytes; the oldest letters go first, and are counted. It is no part of the
ledger, and it outlives the job.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.store import keys
from services.trajectories.entries import DEAD, NO_NUMBER, Entry

MOST_LETTERS = 1000
MOST_LETTER_BYTES = 64 * 2**20
MAX_KEPT_BYTES = 8 * 2**20
"""A larger payload is kept up to here only."""
MAX_DETAIL_CHARACTERS = 1000


@dataclass(frozen=True)
class Wish:
    """A person's wish that the prompt of a dead letter be issued anew."""

    letter: str
    number: int
    """Of the group that died."""
    origin: int
    """The number whose dataset row the prompt is: another one when the group had been requeued itself."""

    @property
    def text(self) -> str:
        """As it lies in Redis."""
        return f"{self.letter} {self.number}"


def letter_keys(job_id: str) -> list[str]:
    """The keys every Lua call that buries begins with."""
    dead = [keys.stream(job_id, DEAD), keys.stream_index(job_id, DEAD)]
    return [*dead, keys.tallies(job_id), keys.requeues(job_id)]


def letter_arguments(job_id: str, entry: Entry, found_in: str, reason: str, detail: str) -> list[str | int | bytes]:
    """The arguments every Lua call that buries begins with."""
    number = "-" if entry.number == NO_NUMBER else entry.number
    said = detail[:MAX_DETAIL_CHARACTERS].encode(errors="replace")
    letter: list[str | int | bytes] = [job_id, number, entry.step, found_in, entry.id, reason, said]
    kept = entry.payload[:MAX_KEPT_BYTES]
    return [*letter, len(entry.payload), kept, entry.tokens, MOST_LETTERS, MOST_LETTER_BYTES]

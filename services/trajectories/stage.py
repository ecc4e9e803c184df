"""One consumer between two streams: takes entries from one under a lease, and moves them on to the other.

Invariants, each kept by one Lua call: a hand-over happens only while the entry is still this consumer's and its number
isn't finished; a lease is refreshed only by its owner; an entry is in one stream only, and in that stream's index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from services.store import keys
from services.store.client import Client, CommandRefused, call, ensure_group
from services.trajectories.codec import check_size
from services.trajectories.dead.form import letter_arguments, letter_keys
from services.trajectories.entries import CONSUMERS, TRAINING_STREAMS, Entry, read_entry
from services.trajectories.stream_stats import pairs
from services.trajectories.tallies import LOST_LEASE, REDELIVERED, Tallies

SCAN = 64


class Stage:
    """One consumer between two streams of one job."""

    def __init__(self, client: Client, job_id: str, source: str, target: str, consumer: str) -> None:
        self._client = client
        self._job_id = job_id
        self._name = source
        self._source = keys.stream(job_id, source)
        self._from, self._to = pairs(job_id, [source]), pairs(job_id, [target])
        self._consumer = consumer
        # Evaluation lies outside the ledger: its numbers are row indices, which no bitmap knows.
        self._ledgered = "1" if source in TRAINING_STREAMS else "0"
        self._deaths = keys.deaths(job_id) if source in TRAINING_STREAMS else keys.evaluation_deaths(job_id)

    def take(self, block_seconds: float = 0.0) -> Entry | None:
        """The next new entry, now this consumer's; None when none came within `block_seconds` (at most 5)."""
        block = int(min(block_seconds, 5.0) * 1000)
        try:
            answer: Any = self._client.xreadgroup(
                CONSUMERS, self._consumer, {self._source: ">"}, count=1, block=block if block > 0 else None
            )
        except CommandRefused as error:
            if not str(error).startswith("NOGROUP"):
                raise
            ensure_group(self._client, self._source, CONSUMERS)
            return None
        for _, entries in answer or []:
            for entry_id, fields in entries:
                return read_entry(self._job_id, entry_id, fields)
        return None

    def take_over(self, idle_seconds: float) -> list[Entry]:
        """Entries whose lease ran out `idle_seconds` ago or was released, now this consumer's; deaths are counted.

        Own entries are among them when they were not refreshed: the answer that brought one may have been lost.
        """
        arguments: list[str | int] = [CONSUMERS, self._consumer, int(idle_seconds * 1000), SCAN]
        try:
            rows = call(self._client, "take_over", [self._source, self._deaths], arguments)
        except CommandRefused as error:
            _accept_missing_stream(error)
            return []
        if rows:
            Tallies(self._client).count(self._job_id, f"{REDELIVERED}{self._name}", len(rows))
        return [read_entry(self._job_id, entry_id, _fields(flat), int(deaths)) for entry_id, flat, deaths in rows]

    def refresh(self, entry_ids: Iterable[str]) -> None:
        """Refresh the leases of entries that are still this consumer's; others are left alone."""
        ids = list(entry_ids)
        if ids:
            try:
                call(self._client, "refresh", [self._source], [CONSUMERS, self._consumer, *ids])
            except CommandRefused as error:
                _accept_missing_stream(error)

    def hand_over(self, entry: Entry, payload: bytes, step: int, *, sampled_tokens: int | None = None) -> bool:
        """Move the group on, atomically. False: it was no longer ours, or is finished; nothing was added then.

        `sampled_tokens`: completion tokens this consumer has just sampled for it; they are counted as wasted when it
        was no longer ours. Without it, the entry's own count goes on with it. Raises MalformedMessage for a payload
        above the size of a message: nothing is sent then.
        """
        check_size(payload)
        tokens = entry.tokens if sampled_tokens is None else sampled_tokens
        counters = [keys.finished(self._job_id), keys.handed_over(self._job_id), keys.tallies(self._job_id)]
        fields: list[str | int | bytes] = [CONSUMERS, self._consumer, entry.id, entry.number]
        fields += [self._job_id, step, payload, self._ledgered, tokens]
        try:
            outcome = int(call(self._client, "hand_over", [*self._from, *self._to, *counters], fields))
        except CommandRefused as error:
            _accept_missing_stream(error)
            outcome = 0
        if outcome == 0 and sampled_tokens:
            Tallies(self._client).waste(self._job_id, LOST_LEASE, sampled_tokens)
        return outcome == 1

    def give_back(self, entry: Entry) -> None:
        """Let the entry be taken over by another consumer at once, without counting a death."""
        try:
            call(self._client, "release", [self._source], [CONSUMERS, self._consumer, entry.id])
        except CommandRefused as error:
            _accept_missing_stream(error)

    def bury(self, entry: Entry, reason: str, detail: str, failure: bytes) -> bool:
        """Keep a copy in `dead` and take the entry out, atomically. False: it was no longer ours; nothing happened.

        `failure` goes on in its place where its number would be lost otherwise: a stranger's entry with a number that
        was never issued, is finished, or has a living entry elsewhere ends no number. b"": no number is known.
        """
        check_size(failure)
        job = self._job_id
        key_list = [*letter_keys(job), *self._from, *self._to, keys.finished(job), keys.cursor(job), self._deaths]
        letter = letter_arguments(job, entry, self._name, reason, detail)
        arguments = [*letter, CONSUMERS, self._consumer, self._ledgered, failure]
        try:
            return bool(call(self._client, "bury", [*key_list, *pairs(job, TRAINING_STREAMS)], arguments))
        except CommandRefused as error:
            _accept_missing_stream(error)
            return False


def _accept_missing_stream(error: CommandRefused) -> None:
    """A stream that was removed (an evaluation that ended, a closed job) holds nothing of ours any more."""
    if "NOGROUP" not in str(error):
        raise error


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))

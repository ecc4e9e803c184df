"""Streams of groups between the stages, with leases.

One `Stage` is one consumer's view: it takes from `source` and hands over to `target`. Invariants, each kept by one Lua
call: a hand-over happens only while the entry is still this consumer's and its number isn't finished; a lease is
refreshed only by its owner; an entry is in one stream only. Entry ids are the streams' own; job and number are plain
fields, so that a broken payload can still be named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.store import keys
from services.store.client import Client, CommandRefused, call

PROMPTS, TRAJECTORIES, SCORED, DEAD = "prompts", "trajectories", "scored", "dead"
EVAL_PROMPTS, EVAL_TRAJECTORIES, EVAL_SCORED = "eval_prompts", "eval_trajectories", "eval_scored"
TRAINING_STREAMS = (PROMPTS, TRAJECTORIES, SCORED)
EVALUATION_STREAMS = (EVAL_PROMPTS, EVAL_TRAJECTORIES, EVAL_SCORED)

CONSUMERS = "workers"
"""Name of the one consumer group of every stream that has one."""
POISON_DEATHS = 5
"""A group held at this many deaths is not tried again."""
SCAN = 64


@dataclass(frozen=True)
class Entry:
    """One group in a stream."""

    id: str
    number: int
    step: int
    """Step of its oldest token's version; of its issue in `prompts`."""
    payload: bytes
    deaths: int = 0
    """Consumers that died or hung holding this number."""


class Stage:
    """One consumer between two streams of one job."""

    def __init__(self, client: Client, job_id: str, source: str, target: str, consumer: str) -> None:
        self._client = client
        self._job_id = job_id
        self._source = keys.stream(job_id, source)
        self._target = keys.stream(job_id, target)
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
            ensure_group(self._client, self._source)
            return None
        for _, entries in answer or []:
            for entry_id, fields in entries:
                return _entry(entry_id, fields, 0)
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
        return [_entry(entry_id, _pairs(fields), int(deaths)) for entry_id, fields, deaths in rows]

    def refresh(self, entry_ids: Iterable[str]) -> None:
        """Refresh the leases of entries that are still this consumer's; others are left alone."""
        ids = list(entry_ids)
        if ids:
            try:
                call(self._client, "refresh", [self._source], [CONSUMERS, self._consumer, *ids])
            except CommandRefused as error:
                _accept_missing_stream(error)

    def hand_over(self, entry: Entry, payload: bytes, step: int) -> bool:
        """Move the group on, atomically. False: it was no longer ours, or is finished; nothing was added then."""
        key_list = [self._source, self._target, keys.finished(self._job_id), keys.handed_over(self._job_id)]
        fields: list[str | int | bytes] = [CONSUMERS, self._consumer, entry.id, entry.number]
        fields += [self._job_id, step, payload, self._ledgered]
        try:
            return bool(call(self._client, "hand_over", key_list, fields))
        except CommandRefused as error:
            _accept_missing_stream(error)
            return False

    def give_back(self, entry: Entry) -> None:
        """Let the entry be taken over by another consumer at once, without counting a death."""
        try:
            call(self._client, "release", [self._source], [CONSUMERS, self._consumer, entry.id])
        except CommandRefused as error:
            _accept_missing_stream(error)

    def bury(self, entry: Entry, reason: str) -> None:
        """Keep a copy of a payload nobody could read in `dead`, for people; the group itself goes on as a failure."""
        self._client.xadd(
            keys.stream(self._job_id, DEAD),
            {"job": self._job_id, "number": entry.number, "reason": reason, "payload": entry.payload},
        )


def ensure_group(client: Client, stream_key: str) -> None:
    """Create stream and consumer group if missing."""
    try:
        client.xgroup_create(stream_key, CONSUMERS, id="0", mkstream=True)
    except CommandRefused as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def prepare(client: Client, job_id: str) -> None:
    """Create all streams of a job that have consumers."""
    for name in (PROMPTS, TRAJECTORIES, EVAL_PROMPTS, EVAL_TRAJECTORIES):
        ensure_group(client, keys.stream(job_id, name))


def release_consumer(client: Client, job_id: str, consumer: str) -> int:
    """Let everything a dead consumer held be taken over at once. Returns how many entries; the death counts then."""
    released = 0
    for name in (PROMPTS, TRAJECTORIES, EVAL_PROMPTS, EVAL_TRAJECTORIES):
        ensure_group(client, keys.stream(job_id, name))
        released += int(call(client, "release_consumer", [keys.stream(job_id, name)], [CONSUMERS, consumer]))
    return released


def dispatch(client: Client, job_id: str, number: int, payload: bytes, step: int) -> bool:
    """Issue group `number` if, and only if, it is the cursor; the cursor grows by one. One Lua call."""
    added = call(
        client,
        "dispatch",
        [keys.stream(job_id, PROMPTS), keys.cursor(job_id)],
        [number, job_id, step, payload],
    )
    return bool(added)


def reissue(client: Client, job_id: str, number: int, payload: bytes, step: int) -> bool:
    """Issue a number below the cursor again, only if it is neither finished nor in any stream. One Lua call."""
    streams = [keys.stream(job_id, name) for name in TRAINING_STREAMS]
    key_list = [*streams, keys.cursor(job_id), keys.finished(job_id)]
    return bool(call(client, "reissue", key_list, [number, job_id, step, payload]))


def cursor(client: Client, job_id: str) -> int:
    """The next number the dispatcher gives."""
    return int(client.get(keys.cursor(job_id)) or 0)


def add_evaluation(client: Client, job_id: str, number: int, payload: bytes, step: int) -> None:
    """Issue one evaluation prompt."""
    fields: dict[str, str | int | bytes] = {"job": job_id, "number": number, "step": step, "payload": payload}
    client.xadd(keys.stream(job_id, EVAL_PROMPTS), fields)  # type: ignore[arg-type]


def read_after(client: Client, job_id: str, name: str, last_id: str, count: int = SCAN) -> list[Entry]:
    """Entries of a stream behind `last_id` ("0" for all), without taking them: the learner's way to read."""
    rows: Any = client.xrange(keys.stream(job_id, name), min=f"({last_id}" if last_id != "0" else "-", count=count)
    return [_entry(entry_id, fields, 0) for entry_id, fields in rows]


def remove(client: Client, job_id: str, name: str, entry_ids: Sequence[str]) -> None:
    """Delete entries of a stream without consumer group."""
    if entry_ids:
        client.xdel(keys.stream(job_id, name), *entry_ids)


def steps_in_flight(client: Client, job_id: str, name: str) -> list[tuple[int, int]]:
    """(number, step) of every entry of a stream; payloads stay in Redis."""
    rows = call(client, "peek", [keys.stream(job_id, name)], [])
    return [(int(number), int(step)) for number, step in rows]


def _accept_missing_stream(error: CommandRefused) -> None:
    """A stream that was removed (an evaluation that ended, a closed job) holds nothing of ours any more."""
    if "NOGROUP" not in str(error):
        raise error


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _entry(entry_id: bytes | str, fields: dict[bytes, bytes], deaths: int) -> Entry:
    name = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return Entry(name, int(fields[b"number"]), int(fields[b"step"]), fields[b"payload"], deaths)

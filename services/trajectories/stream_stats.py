"""Entries, bytes and age of the streams, without reading payloads.

All of it comes from the index beside each stream (`index.lua`), which the Lua calls that change a stream keep in the
same call. `verify_index` compares it with the streams themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.store import answers, keys
from services.store.client import Client, call
from services.trajectories.entries import ALL_STREAMS, CONSUMERS, NO_NUMBER, read_entry


@dataclass(frozen=True)
class StreamStats:
    """One stream at one moment."""

    entries: int
    bytes: int
    """Of payloads."""
    oldest_seconds: float
    """Age of its oldest entry, counted from its coming into this stream; 0 when the stream is empty."""
    pending: int = 0
    """Entries that a worker holds."""


def pairs(job_id: str, names: Iterable[str]) -> list[str]:
    """Keys of the streams, each with its index behind it."""
    return [key for name in names for key in (keys.stream(job_id, name), keys.stream_index(job_id, name))]


def stream_stats(client: Client, job_id: str, names: Iterable[str] = ALL_STREAMS) -> dict[str, StreamStats]:
    """Entries, bytes and age of each stream, in one Lua call."""
    chosen = tuple(names)
    rows = call(client, "stream_stats", pairs(job_id, chosen), [CONSUMERS])
    return {
        name: StreamStats(int(entries), int(size), int(age) / 1000, int(pending))
        for name, (entries, size, age, pending) in zip(chosen, rows, strict=True)
    }


def steps_in_flight(client: Client, job_id: str, name: str) -> list[tuple[int, int]]:
    """(number, step) of every entry of a stream that names a number."""
    return [(int(number), int(step)) for number, step in call(client, "peek", pairs(job_id, [name]))]


def forget_index(client: Client, job_id: str) -> None:
    """Make the next look read the streams themselves: a new learner need not trust an old index."""
    client.delete(*(keys.stream_index(job_id, name) for name in ALL_STREAMS))


def verify_index(client: Client, job_id: str) -> list[str]:
    """Differences of index and streams, one line each. It reads all payloads, so it is for tests and audits."""
    differences = []
    for name in ALL_STREAMS:
        pipeline = client.pipeline(transaction=True)
        pipeline.xrange(keys.stream(job_id, name))
        pipeline.hgetall(keys.stream_index(job_id, name))
        entries, stored = pipeline.execute()
        index = answers.fields(stored)
        found = {answers.text(entry_id): _row(job_id, entry_id, fields) for entry_id, fields in entries}
        for entry_id in sorted(found.keys() | index.keys()):
            there, noted = found.get(entry_id), index.get(entry_id)
            if there != noted:
                differences.append(f"{name} {entry_id}: the stream has {there!r}, the index {noted!r}")
    return differences


def _row(job_id: str, entry_id: Any, fields: Any) -> str:
    """An entry as the index should have it."""
    entry = read_entry(job_id, entry_id, fields)
    number = "-" if entry.number == NO_NUMBER else str(entry.number)
    source = ""
    if b"found_in" in fields:
        source = "".join(f"{fields[b'found_in'].decode()}/{fields.get(b'entry', b'').decode()}".split())
    return f"{number} {entry.step} {len(entry.payload)} {entry.tokens} {source}"

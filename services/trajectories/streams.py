"""Streams of groups between the stages.

Numbers are given here, entries are read and removed here; `stage.Stage` is how a consumer moves them on. Invariants,
each kept by one Lua call: a number is given once, and an entry is in one stream only and in that stream's index. Entry
ids are the streams' own; job and number are plain fields, so that a broken payload can still be named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.store import keys
from services.store.client import Client, call, ensure_group
from services.trajectories.dead.form import Wish
from services.trajectories.entries import (
    CONSUMERS,
    EVAL_PROMPTS,
    EVAL_TRAJECTORIES,
    PROMPTS,
    TRAINING_STREAMS,
    TRAJECTORIES,
    Entry,
    read_entry,
)
from services.trajectories.stage import SCAN
from services.trajectories.stream_stats import pairs


def prepare(client: Client, job_id: str) -> None:
    """Create all streams of a job that have consumers."""
    for name in (PROMPTS, TRAJECTORIES, EVAL_PROMPTS, EVAL_TRAJECTORIES):
        ensure_group(client, keys.stream(job_id, name), CONSUMERS)


def delete(client: Client, job_id: str, names: Sequence[str]) -> None:
    """Delete streams with their indexes, all at once."""
    client.delete(*pairs(job_id, names))


def release_consumer(client: Client, job_id: str, consumer: str) -> int:
    """Let everything a dead consumer held be taken over at once. Returns how many entries; the death counts then."""
    released = 0
    for name in (PROMPTS, TRAJECTORIES, EVAL_PROMPTS, EVAL_TRAJECTORIES):
        ensure_group(client, keys.stream(job_id, name), CONSUMERS)
        released += int(call(client, "release_consumer", [keys.stream(job_id, name)], [CONSUMERS, consumer]))
    return released


def dispatch(client: Client, job_id: str, number: int, payload: bytes, step: int, wish: Wish | None = None) -> bool:
    """Issue group `number` if, and only if, it is the cursor; the cursor grows by one. One Lua call.

    With a wish, its prompt is what `payload` asks for: refused unless it is the first wish that waits.
    """
    key_list = [*pairs(job_id, [PROMPTS]), keys.cursor(job_id)]
    key_list += [keys.wishes(job_id), keys.requeues(job_id), keys.origins(job_id)]
    wished: list[str | int] = ["", "", ""] if wish is None else [wish.text, wish.letter, wish.origin]
    return bool(call(client, "dispatch", key_list, [number, job_id, step, payload, *wished]))


def reissue(client: Client, job_id: str, number: int, payload: bytes, step: int) -> bool:
    """Issue a number below the cursor again, only if it is neither finished nor in any stream. One Lua call."""
    key_list = [*pairs(job_id, TRAINING_STREAMS), keys.cursor(job_id), keys.finished(job_id)]
    return bool(call(client, "reissue", key_list, [number, job_id, step, payload]))


def cursor(client: Client, job_id: str) -> int:
    """The next number the dispatcher gives."""
    return int(client.get(keys.cursor(job_id)) or 0)


def add_evaluation(client: Client, job_id: str, number: int, payload: bytes, step: int) -> None:
    """Issue one evaluation prompt."""
    call(client, "add", pairs(job_id, [EVAL_PROMPTS]), [number, job_id, step, payload])


def read_after(client: Client, job_id: str, name: str, last_id: str, count: int = SCAN) -> list[Entry]:
    """Entries of a stream behind `last_id` ("0" for all), without taking them: the learner's way to read."""
    rows: Any = client.xrange(keys.stream(job_id, name), min=f"({last_id}" if last_id != "0" else "-", count=count)
    return [read_entry(job_id, entry_id, fields) for entry_id, fields in rows]


def remove(client: Client, job_id: str, name: str, entry_ids: Sequence[str]) -> None:
    """Delete entries of a stream without consumer group."""
    if entry_ids:
        call(client, "remove", pairs(job_id, [name]), list(entry_ids))

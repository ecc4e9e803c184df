"""A job's events: one stream a job, in the order they happened.

An event's id is its place in the stream (`ftevent-MILLISECONDS-COUNT`), so that a page or a follower goes on from any
id. Events that belong to a change of the record are written by that change's Lua call, not here.
"""

from __future__ import annotations

import builtins
import json
import re
import time
from typing import Any, Literal

from pydantic import BaseModel

from services.job.strict_json import JsonObject
from services.store import answers, keys
from services.store.client import Client
from services.store.index import UnknownCursor

PREFIX = "ftevent-"
MAX_BLOCK_SECONDS = 5.0
FOLLOW_COUNT = 500
KEPT = 2_000
"""About so many events of a job are kept; new ones push out the oldest."""
_ID = re.compile(r"ftevent-(\d{1,19}-\d{1,19})")

Level = Literal["info", "warn", "error"]
Kind = Literal["message", "metrics"]


class Event(BaseModel):
    """One event; `created_at` in seconds since the epoch."""

    id: str
    """Its place in the job's stream."""
    created_at: int
    """When it happened."""
    level: Level
    """How grave it is."""
    type: Kind
    """`metrics` has figures in `data`."""
    message: str
    """In words."""
    data: JsonObject | None = None
    """Its figures; None: it has none."""


def _event(entry_id: Any, stored: Any) -> Event:
    values = answers.fields(stored)
    said = {**values, "id": PREFIX + answers.text(entry_id), "data": json.loads(values["data"])}
    return Event.model_validate(said)


def _position(event_id: str) -> str:
    match = _ID.fullmatch(event_id)
    if match is None:
        raise UnknownCursor(event_id)
    return match[1]


class Events:
    """Writes and reads events."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def add(
        self,
        job_id: str,
        message: str,
        *,
        level: Level = "info",
        type: Kind = "message",
        data: JsonObject | None = None,
    ) -> str:
        """Append an event; answers its id. Figures in `data` that are not finite become null."""
        entry: dict[Any, Any] = {
            "created_at": int(time.time()),
            "level": level,
            "type": type,
            "message": message,
            "data": answers.dump(data),
        }
        added = self._client.xadd(keys.events(job_id), entry, maxlen=KEPT, approximate=True)
        return PREFIX + answers.text(added)

    def list(self, job_id: str, *, after: str | None = None, limit: int = 20) -> tuple[list[Event], bool]:
        """A page, newest first, of the events before `after`; and whether there are more. Raises UnknownCursor."""
        newest = f"({_position(after)}" if after else "+"
        entries: Any = self._client.xrevrange(keys.events(job_id), max=newest, min="-", count=limit + 1)
        events = [_event(*entry) for entry in entries]
        return events[:limit], len(events) > limit

    def follow(self, job_id: str, last_id: str = "", block_seconds: float = 0.0) -> builtins.list[Event]:
        """Events after `last_id` ("" for the first), oldest first; waits up to `block_seconds` (at most 5) for one.

        Raises UnknownCursor.
        """
        position = _position(last_id) if last_id else "0-0"
        block = int(min(block_seconds, MAX_BLOCK_SECONDS) * 1000) or None
        found: Any = self._client.xread({keys.events(job_id): position}, count=FOLLOW_COUNT, block=block)
        return [_event(*entry) for entry in found[0][1]] if found else []

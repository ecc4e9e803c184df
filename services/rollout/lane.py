"""One pair of streams as an asyncio worker sees it, and the entries of its source that it holds.

Invariant: an entry is held from its taking until its hand-over or return; leases are refreshed for held entries only.
Redis is called in threads; a call is never cancelled half-way, since a taken entry would be lost to us then. A stream
that was removed under us (a newer evaluation starts with fresh ones) leaves nothing in it that is ours.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from services.store.client import Client, CommandRefused
from services.trajectories.streams import Entry, Stage

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """Takes from one stream and hands over to another."""

    def __init__(self, client: Client, job_id: str, source: str, target: str, consumer: str) -> None:
        self._stage = Stage(client, job_id, source, target, consumer)
        self._held: dict[str, Entry] = {}
        self._untouched: deque[Entry] = deque()

    async def take(self) -> Entry | None:
        """The next entry to work on, or None; never waits for one."""
        if self._untouched:
            return self._untouched.popleft()
        entry = await asyncio.to_thread(self._stage.take)
        if entry is not None:
            self._held[entry.id] = entry
        return entry

    async def take_over(self, idle_seconds: float, room: int) -> None:
        """Hold up to `room` entries of dead or hung consumers; what is beyond goes back at once."""
        if room <= 0:
            return
        taken = await asyncio.to_thread(self._stage.take_over, idle_seconds)
        found = [entry for entry in taken if entry.id not in self._held]
        for entry in found[:room]:
            self._held[entry.id] = entry
            self._untouched.append(entry)
        for entry in found[room:]:
            await _unless_gone(self._stage.give_back, entry)

    async def refresh(self) -> None:
        """Refresh the leases of everything held."""
        await _unless_gone(self._stage.refresh, list(self._held))

    async def hand_over(self, entry: Entry, payload: bytes, step: int) -> bool:
        """Move the group on. False: it was no longer ours."""
        moved = await _unless_gone(self._stage.hand_over, entry, payload, step)
        self._held.pop(entry.id, None)
        return bool(moved)

    async def bury(self, entry: Entry, reason: str) -> None:
        """Keep a copy of what could not be sampled, for people."""
        await asyncio.to_thread(self._stage.bury, entry, reason)

    async def give_back(self) -> int:
        """Return everything held, to be taken over by others at once. Returns how many."""
        entries = list(self._held.values())
        self._held.clear()
        self._untouched.clear()
        for entry in entries:
            await _unless_gone(self._stage.give_back, entry)
        return len(entries)


async def _unless_gone(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except CommandRefused as error:
        if "NOGROUP" not in str(error):
            raise
        return None

"""One pair of streams as an asyncio worker sees it, and the entries of its source that it holds.

Invariant: an entry is held from its taking until its hand-over or return; leases are refreshed for held entries only.
Redis is called in threads; a call is never cancelled half-way, since a taken entry would be lost to us then.
"""

from __future__ import annotations

import asyncio
from collections import deque

from services.store.client import Client
from services.trajectories.entries import Entry
from services.trajectories.stage import Stage


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
            await asyncio.to_thread(self._stage.give_back, entry)

    async def refresh(self) -> None:
        """Refresh the leases of everything held."""
        await asyncio.to_thread(self._stage.refresh, list(self._held))

    async def hand_over(self, entry: Entry, payload: bytes, step: int, sampled_tokens: int = 0) -> bool:
        """Move the group on. False: it was no longer ours; what was sampled for it is counted as wasted then."""
        moved = await asyncio.to_thread(self._stage.hand_over, entry, payload, step, sampled_tokens=sampled_tokens)
        self._held.pop(entry.id, None)
        return moved

    async def bury(self, entry: Entry, reason: str, detail: str, failure: bytes) -> bool:
        """Keep a copy of what could not be read, for people; `failure` goes on for its number. False: not ours."""
        buried = await asyncio.to_thread(self._stage.bury, entry, reason, detail, failure)
        self._held.pop(entry.id, None)
        return buried

    async def give_back(self) -> int:
        """Return everything held, to be taken over by others at once. Returns how many."""
        entries = list(self._held.values())
        self._held.clear()
        self._untouched.clear()
        for entry in entries:
            await asyncio.to_thread(self._stage.give_back, entry)
        return len(entries)

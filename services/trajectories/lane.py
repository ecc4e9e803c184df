"""One pair of streams as a worker sees it, and the entries of its source that it holds.

Invariants: an entry is held from its taking until its hand-over, burial or return; leases are refreshed for held
entries only. One thread takes at a time; others may hand over meanwhile.
"""

from __future__ import annotations

from collections import deque

from services.store.client import Client
from services.trajectories.entries import Entry
from services.trajectories.outcomes import GroupFailed
from services.trajectories.stage import Stage


class Lane:
    """Takes from one stream and hands over to another."""

    def __init__(self, client: Client, job_id: str, source: str, target: str, consumer: str) -> None:
        self._stage = Stage(client, job_id, source, target, consumer)
        self._held: dict[str, Entry] = {}
        self._untouched: deque[Entry] = deque()
        """Held entries that were taken over and that nobody has begun."""

    def take(self, block_seconds: float = 0.0) -> Entry | None:
        """The next entry to work on; None when none came within `block_seconds`."""
        if self._untouched:
            return self._untouched.popleft()
        entry = self._stage.take(block_seconds)
        if entry is not None:
            self._held[entry.id] = entry
        return entry

    def take_over(self, idle_seconds: float, room: int | None = None) -> None:
        """Hold entries of dead or hung consumers, up to `room` (None: all); what is beyond goes back at once."""
        if room is not None and room <= 0:
            return
        held = set(self._held)  # before the look: what is handed over meanwhile is not begun again
        found = [entry for entry in self._stage.take_over(idle_seconds) if entry.id not in held]
        for entry in found[:room]:
            self._held[entry.id] = entry
            self._untouched.append(entry)
        for entry in found[room:] if room is not None else []:
            self._stage.give_back(entry)

    def refresh(self) -> None:
        """Refresh the leases of everything held."""
        self._stage.refresh(list(self._held))

    def hand_over(self, entry: Entry, payload: bytes, step: int, *, sampled_tokens: int | None = None) -> bool:
        """Move the group on; see `Stage.hand_over`. False: it was no longer ours."""
        moved = self._stage.hand_over(entry, payload, step, sampled_tokens=sampled_tokens)
        self._held.pop(entry.id, None)
        return moved

    def bury(self, entry: Entry, error: GroupFailed, failure: bytes) -> bool:
        """Keep a copy of what came, for people; `failure` goes on for its number. False: it was no longer ours."""
        buried = self._stage.bury(entry, error.reason, f"{error.code}: {error.detail}", failure)
        self._held.pop(entry.id, None)
        return buried

    def give_back(self) -> int:
        """Return everything held, to be taken over by others at once. Returns how many."""
        entries = list(self._held.values())
        self._held.clear()
        self._untouched.clear()
        for entry in entries:
            self._stage.give_back(entry)
        return len(entries)

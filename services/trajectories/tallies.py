"""Counts of a job's groups on their way: wasted tokens, dead letters, the size of a group.

The Lua call that does a thing also counts it, so a repeat counts nothing twice. The counts are for readers, and for the
pacing by bytes. Wasted tokens are completion tokens that were sampled and not trained; the tokens of aborted requests
are unknown and not counted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from services.store import answers, keys
from services.store.client import Client

LOST_LEASE = "lost_lease"
"""A hand-over came too late: another worker held the group by then. One whose answer was lost counts here too."""
REDELIVERED, RESTARTS = "redelivered:", "restarts:"
CANARY_FAILURES, CANARY_FAILED_AT = "canary_failures", "canary_failed_at"
WEIGHTS_CHANGED = "weights_changed"
"""An evaluation's sample that spans two versions and is run again."""


@dataclass(frozen=True)
class TallyRecord:
    """Counts since the job began."""

    wasted_tokens: dict[str, int] = field(default_factory=dict)
    """Drop reason, `duplicate` (a number's second group), LOST_LEASE or WEIGHTS_CHANGED -> completion tokens."""
    dead_letters: dict[str, int] = field(default_factory=dict)
    """Drop reason -> letters ever written."""
    forgotten_letters: int = 0
    """Letters that made room for newer ones."""
    redelivered: dict[str, int] = field(default_factory=dict)
    """Stream -> entries that were taken over: of workers that died, hung, or gave them back."""
    restarts: dict[str, int] = field(default_factory=dict)
    """Kind of worker -> workers that died or hung and were replaced."""
    canary_failures: int = 0
    """Engines that did not answer as their weights must."""
    canary_failed_at: int = 0
    """When the last of them was, in seconds since the epoch."""
    sampled_groups: int = 0
    """Hand-overs of groups with completions, of both stages."""
    sampled_bytes: int = 0
    """Their payloads."""

    @property
    def group_bytes(self) -> float:
        """Mean bytes of a sampled group; 0 before the first."""
        return self.sampled_bytes / self.sampled_groups if self.sampled_groups else 0.0


class Tallies:
    """Reads the counts, and writes the counts that no Lua call sees."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, job_id: str) -> TallyRecord:
        """All counts of a job."""
        stored: Any = self._client.hgetall(keys.tallies(job_id))
        counts = {name: int(value) for name, value in answers.fields(stored).items()}
        return TallyRecord(
            wasted_tokens=_of(counts, "wasted:"),
            dead_letters=_of(counts, "dead:"),
            forgotten_letters=counts.get("dead_forgotten", 0),
            redelivered=_of(counts, REDELIVERED),
            restarts=_of(counts, RESTARTS),
            canary_failures=counts.get(CANARY_FAILURES, 0),
            canary_failed_at=counts.get(CANARY_FAILED_AT, 0),
            sampled_groups=counts.get("sampled_groups", 0),
            sampled_bytes=counts.get("sampled_bytes", 0),
        )

    def waste(self, job_id: str, reason: str, tokens: int) -> None:
        """Count completion tokens that nobody will train."""
        self.count(job_id, f"wasted:{reason}", tokens)

    def count(self, job_id: str, name: str, amount: int = 1) -> None:
        """Add to one of the other counts."""
        self._client.hincrby(keys.tallies(job_id), name, amount)

    def canary_failed(self, job_id: str) -> None:
        """Count an engine that did not answer as its weights must, and remember when."""
        self.count(job_id, CANARY_FAILURES)
        self._client.hset(keys.tallies(job_id), CANARY_FAILED_AT, int(time.time()))


def _of(counts: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in sorted(counts.items()) if name.startswith(prefix)}

"""Counts deaths: k deaths of one kind of worker without progress in between fail the job with their cause."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_DEATHS = 5


@dataclass
class Supervision:
    """Counts deaths by kind of actor. Progress is a committed step for learners, a hand-over for workers."""

    _deaths: dict[str, int] = field(default_factory=dict)
    _progress: dict[str, int] = field(default_factory=dict)

    def death(self, kind: str, progress: int) -> bool:
        """Note a death, with the progress counter of its kind; True when it is one too many."""
        if progress != self._progress.get(kind):  # a rollback, or a Redis that forgot, makes it smaller
            self._progress[kind] = progress
            self._deaths[kind] = 0
        self._deaths[kind] = self._deaths.get(kind, 0) + 1
        return self._deaths[kind] >= MAX_DEATHS

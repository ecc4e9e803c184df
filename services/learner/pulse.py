"""The pulse of a learner: other threads read it, and ask the learner to stop."""

from __future__ import annotations

import threading
import time


class Pulse:
    """The training thread writes it, the reporting thread reads it. Any thread may call `stop`."""

    def __init__(self) -> None:
        self.phase = "starting"
        """What the learner does."""
        self.moved_at = time.monotonic()
        """When the training thread last made progress, in monotonic seconds: a watchdog looks at it."""
        self.version = 0
        """Newest version published; 0 before the first."""
        self._stop = threading.Event()

    def enter(self, phase: str) -> None:
        """Note that another phase begins."""
        self.phase, self.moved_at = phase, time.monotonic()

    def beat(self) -> None:
        """Note that the training thread makes progress."""
        self.moved_at = time.monotonic()

    def stop(self) -> None:
        """Ask for an end after the current step, with a checkpoint."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep, or until somebody asks for the end."""
        self._stop.wait(seconds)

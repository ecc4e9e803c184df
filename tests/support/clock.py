"""A clock that moves when a test says so."""

from __future__ import annotations


class Clock:
    """Stands where a module has `time`: `monkeypatch.setattr(module, "time", clock)`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

"""Waiting for what must come, with a deadline: instead of a timer that may be too short, or longer than it need be."""

from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.05


def wait_until(what: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll until `what` holds. AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(POLL_SECONDS)

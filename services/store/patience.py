"""Repeats a command while Redis can't be reached, until a deadline and not for a number of tries.

Invariants: pauses grow and are jittered, so clients don't all return at once when Redis does; a connection's tries
within a command share the command's deadline; a refused password is not tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 1.0
_ONCE = Retry(NoBackoff(), 0)


class Patience(Retry):
    """Tries again until `seconds` have passed since the first failure; the last try begins at most a pause later.

    A connection has a copy of its own and one thread at a time.
    """

    def __init__(self, seconds: float) -> None:
        longest = min(LONGEST_PAUSE_SECONDS, seconds / 4)
        super().__init__(ExponentialWithJitterBackoff(base=0.02, cap=longest), retries=-1)
        self._seconds = seconds
        self._trying = False

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """As the base class says; raises the last error."""
        if self._trying:  # a connection that is made anew inside a command's try
            return _ONCE.call_with_retry(do, fail, is_retryable, with_failure_count)
        deadline: float | None = None

        def worth_another(error: Exception) -> bool:
            nonlocal deadline
            if isinstance(error, AuthenticationError) or (is_retryable is not None and not is_retryable(error)):
                return False
            deadline = deadline or time.monotonic() + self._seconds
            return time.monotonic() < deadline

        self._trying = True
        try:
            return super().call_with_retry(do, fail, worth_another, with_failure_count)
        finally:
            self._trying = False

"""How long a command is tried again while Redis can't be reached: a deadline, not a number of tries.

Invariants: pauses grow and are jittered, so that a Redis that comes back isn't met by everybody at once; the tries of a
connection inside the tries of a command share its deadline; a refused password is not tried again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

T = TypeVar("T")

LONGEST_PAUSE_SECONDS = 1.0
_current = threading.local()  # connections copy their retry, so that the deadline can't be kept in it


class Patience(Retry):
    """Tries again until `seconds` have passed since the first failure."""

    def __init__(self, seconds: float) -> None:
        super().__init__(ExponentialWithJitterBackoff(base=0.02, cap=LONGEST_PAUSE_SECONDS), retries=-1)
        self._seconds = seconds

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """As the base class says; raises the last error."""
        if getattr(_current, "trying", False):
            return _once(do, fail, with_failure_count)
        _current.trying = True
        try:
            return self._call(do, fail, is_retryable, with_failure_count)
        finally:
            _current.trying = False

    def _call(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None,
        with_failure_count: bool,
    ) -> T:
        failures, deadline = 0, 0.0
        while True:
            try:
                return do()
            except self._supported_errors as error:
                if isinstance(error, AuthenticationError) or (is_retryable is not None and not is_retryable(error)):
                    raise
                failures += 1
                deadline = deadline or time.monotonic() + self._seconds
                _tell(fail, error, failures, with_failure_count)
                pause = self._backoff.compute(failures)
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)


def _once(do: Callable[[], T], fail: Callable[..., Any], with_failure_count: bool) -> T:
    """A try inside the tries of another."""
    try:
        return do()
    except Exception as error:
        _tell(fail, error, 1, with_failure_count)
        raise


def _tell(fail: Callable[..., Any], error: Exception, failures: int, with_failure_count: bool) -> None:
    if with_failure_count:
        fail(error, failures)
    else:
        fail(error)

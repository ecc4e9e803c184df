"""The connection to Redis, and the Lua scripts beside this file.

The only module that imports redis. Every command has a time-out, connection errors are retried with back-off (each
script is idempotent or answers "not yours" on a repeat), and what stays unreachable raises `StoreError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, TimeoutError
from redis.retry import Retry

Client = redis.Redis
"""A connected client; answers are bytes."""

StoreError = redis.RedisError
CommandRefused = ResponseError

RETRIES = 8
SOCKET_TIMEOUT_SECONDS = 15.0
"""Longer than any blocking read we make (`BLOCK` is at most 5 s)."""


def connect(url: str, retries: int = RETRIES) -> Client:
    """A client for `redis://`, `rediss://` or `unix://`. Does not touch the network before the first command."""
    return redis.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=5.0,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.02), retries),
        retry_on_error=[RedisConnectionError, TimeoutError],
    )


@cache
def _source(name: str) -> str:
    return (Path(__file__).parent / "lua" / f"{name}.lua").read_text()


def call(client: Client, name: str, keys: Sequence[str], args: Sequence[str | bytes | int | float] = ()) -> Any:
    """Run `lua/NAME.lua` atomically. Raises CommandRefused when the script answers with an error."""
    return client.register_script(_source(name))(keys=list(keys), args=list(args))

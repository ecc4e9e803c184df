"""The connection to Redis, and the Lua scripts beside this file.

The only module that imports redis. Every command has a time-out, connection errors are retried with back-off (each
script is idempotent or answers "not yours" on a repeat), and a Redis that stays unreachable raises `StoreError`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError, TimeoutError
from redis.retry import Retry

from services.faults import fault
from services.store.patience import Patience

Client = redis.Redis
"""A connected client; answers are bytes."""

StoreError = redis.RedisError
CommandRefused = ResponseError

PATIENCE_SECONDS = 90.0
"""How long a process that trains, samples or grades waits for a Redis that is away."""
SOCKET_TIMEOUT_SECONDS = 15.0
"""Longer than any blocking read we make (`BLOCK` is at most 5 s)."""


class StoreUnwritable(redis.RedisError):
    """Redis refuses every write, because its disk or its memory is full."""


_SCRIPT: ContextVar[str] = ContextVar("script", default="command")


class _Connected(redis.Redis):
    """A connection with a fault point between sending a script and its answer: then nobody knows whether it ran."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        fault(f"{_SCRIPT.get()}.before_reply")
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if any(sign in str(error) for sign in ("MISCONF", "used memory > 'maxmemory'")):
                raise StoreUnwritable(f"Redis takes no writes (its disk or memory is full): {error}") from error
            raise


def connect(url: str, patience_seconds: float = PATIENCE_SECONDS) -> Client:
    """A client for `redis://`, `rediss://` or `unix://`. Does not touch the network before the first command.

    A command is tried again for `patience_seconds` while Redis can't be reached; then it raises StoreError.
    """
    return _Connected.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=5.0,
        health_check_interval=30,
        retry=Patience(patience_seconds),
        retry_on_error=[RedisConnectionError, TimeoutError],
    )


def run_of(client: Client) -> str:
    """The name of this run of the server. Each restart begins another run, whose memory may lack the newest writes."""
    server: Any = client.info("server")
    return str(server["run_id"])


def reachable(url: str, timeout_seconds: float = 1.0) -> bool:
    """Whether Redis answers right now: one PING with a short time-out, unlike a client's patient commands."""
    client = redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def ensure_group(client: Client, stream: str, group: str) -> None:
    """Create a stream and its consumer group where missing."""
    try:
        client.xgroup_create(stream, group, id="0", mkstream=True)
    except CommandRefused as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


@cache
def script_source(name: str) -> str:
    """A script, with the shared functions that its lines `-- include NAME` ask for."""
    text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
    return re.sub(r"^-- include (\w+)$", lambda match: script_source(match[1]), text, flags=re.MULTILINE)


@cache
def _digest(name: str) -> str:
    return hashlib.sha1(script_source(name).encode(), usedforsecurity=False).hexdigest()


def call(client: Client, name: str, keys: Sequence[str], args: Sequence[str | bytes | int | float] = ()) -> Any:
    """Run `lua/NAME.lua` atomically. Raises CommandRefused when the script answers with an error."""
    fault(f"{name}.before_send")
    script = _SCRIPT.set(name)
    try:
        try:
            return client.evalsha(_digest(name), len(keys), *keys, *args)
        except NoScriptError:
            client.script_load(script_source(name))
            return client.evalsha(_digest(name), len(keys), *keys, *args)
    finally:
        _SCRIPT.reset(script)

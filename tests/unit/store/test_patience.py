"""A Redis that goes away and comes back: commands wait for it, up to their deadline."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.store.client import StoreError, StoreUnwritable, call, connect
from testbed.redis_server import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="sspo-p") as folder:
        made = RedisServer(Path(folder), durable=True)
        made.start()
        yield made
        made.kill()


def test_a_command_waits_for_a_redis_that_comes_back(server: RedisServer) -> None:
    client = connect(server.url, patience_seconds=20)
    client.set("kept", "1")
    server.kill()
    threading.Timer(1.5, server.start).start()
    started = time.monotonic()
    assert client.get("kept") == b"1", "the append-only file has it"
    assert 1.0 < time.monotonic() - started < 10
    assert call(client, "lease", ["lease"], ["me", 5]) == 1, "scripts are loaded anew"


def test_patience_ends(server: RedisServer) -> None:
    client = connect(server.url, patience_seconds=1.0)
    client.get("x")
    server.kill()
    started = time.monotonic()
    with pytest.raises(StoreError):
        client.get("x")
    elapsed = time.monotonic() - started
    server.start()
    assert 0.9 < elapsed < 2.0, "the connection's tries share the command's deadline"


def test_a_redis_that_takes_no_writes_is_named(server: RedisServer) -> None:
    client = connect(server.url, patience_seconds=1.0)
    client.config_set("maxmemory", 1)
    for write in (lambda: client.set("x", "y"), lambda: call(client, "lease", ["lease"], ["me", 5])):
        with pytest.raises(StoreUnwritable, match="disk or memory is full"):
            write()
    client.config_set("maxmemory", 0)
    client.set("x", "y")


def test_a_refused_password_is_not_tried_again(server: RedisServer) -> None:
    connect(server.url).config_set("requirepass", "secret")
    started = time.monotonic()
    with pytest.raises(StoreError):
        connect(f"{server.url}?password=wrong", patience_seconds=20).get("x")
    assert time.monotonic() - started < 2.0

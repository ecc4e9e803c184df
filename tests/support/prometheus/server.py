"""A real Prometheus beside a running service; its configuration is the shipped one with other addresses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.files import RULES
from services.cli.up.parts import free_port
from tests.support.service import RunningService
from tests.support.waiting import wait_until

SCRAPE_SECONDS = 2
SHIPPED = RULES.with_name("prometheus.yml")


def program(name: str) -> str:
    """A program of Debian's package `prometheus`. Without it a test fails under `CI`, and is skipped elsewhere."""
    found = shutil.which(name)
    if found is None:
        reason = f"no {name} on PATH: `make system-packages` as root installs it (Debian's package prometheus)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return str(found)


class Prometheus:
    """One server on a folder of its own, scraping one service."""

    def __init__(self, folder: Path, service: RunningService) -> None:
        self._folder = folder
        self._service = service
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        self.started = 0.0

    def start(self) -> None:
        """Start, and wait until it is ready."""
        path = self._folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(self._configuration()))
        command = [
            *(program("prometheus"), f"--config.file={path}", f"--storage.tsdb.path={self._folder / 'data'}"),
            *(f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=warn"),
        ]
        with open(self._folder / "prometheus.log", "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.started = time.time()
        wait_until(self._ready, 30)

    def stop(self) -> None:
        """End it, and wait for its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression since the start, as a panel asks for them."""
        asked = {"query": expression, "start": self.started, "end": time.time(), "step": SCRAPE_SECONDS}
        found: list[dict[str, Any]] = self._get("query_range", **asked)["result"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        """The pages that it scrapes now."""
        found: list[dict[str, Any]] = self._get("targets", state="active")["activeTargets"]
        return found

    def _get(self, path: str, **asked: object) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}", timeout=20) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data

    def _ready(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "Prometheus has ended"
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
        seconds = f"{SCRAPE_SECONDS}s"
        configuration["global"] = dict.fromkeys(configuration["global"], seconds)
        configuration["rule_files"] = [str(SHIPPED.parent / name) for name in configuration["rule_files"]]
        api, workers = configuration["scrape_configs"]
        api["static_configs"] = [{"targets": [self._service.url.removeprefix("http://")]}]
        [discovery] = workers["http_sd_configs"]
        discovery["url"] = discovery["url"].replace("http://api:8000", self._service.url)
        discovery["refresh_interval"] = seconds
        discovery["authorization"]["credentials_file"] = str(self._service.layout.api_key)
        return configuration


@contextmanager
def scraping(folder: Path, service: RunningService) -> Iterator[Prometheus]:
    """A server that scrapes a service until the end of the block."""
    server = Prometheus(folder, service)
    try:
        server.start()
        yield server
    finally:
        server.stop()

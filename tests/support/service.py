"""Driving a real `sspo up` from a test: REST through the official SDK, and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml
from openai import APIConnectionError, InternalServerError, OpenAI

from services.disk.layout import Layout
from tests.support.waiting import wait_until

ENDED_STEPS = 6
"""Of the job that has ended already."""


class RunningService:
    """One data folder and the service on it. `environment` is what its processes find besides the test's own."""

    def __init__(self, data: Path, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self.layout = Layout(data)
        self.process: subprocess.Popen[bytes] | None = None
        self._body: dict[str, Any] = {}

    def prepare(self) -> None:
        """The demo's starter model and files."""
        from services.cli.demo.prepare import prepare

        self.use(prepare(self.layout.root, 0, None).job_file)

    def use(self, job_file: Path) -> None:
        """A job file that is there already, with its data beside it."""
        self._body = yaml.safe_load(job_file.read_text())
        self._folder = job_file.parent

    def start(self) -> None:
        """Start `sspo up` and wait for its line."""
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        output = self.layout.logs / "test-up.log"
        command = [sys.executable, "-m", "services.cli.main", "up", "--data", str(self.layout.root), "--port", "0"]
        with open(output, "wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=self._environment)
        wait_until(lambda: b"SSPO is ready" in output.read_bytes() or self.process.poll() is not None, 120)
        lines = output.read_text().splitlines()
        assert len(lines) == 1, lines
        self.url = json.loads(self.layout.state.read_text())["url"]
        key = self.layout.api_key.read_text().strip()
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=5)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def submit(self, **changes: Any) -> str:
        """The demo's job; `changes` go into blocks of `x_sspo` ("learner": {...}) or replace other fields."""
        body = json.loads(json.dumps(self._body))
        for field in ("training_file", "validation_file"):
            path = self._folder / body[field]
            body[field] = self.client.files.create(file=path, purpose="fine-tune").id
        extension = body.pop("x_sspo")
        for name, value in changes.items():
            if name in ("objective", "rollout", "learner", "reward"):
                extension[name] = {**extension.get(name, {}), **value}
            else:
                body[name] = value
        return self.client.fine_tuning.jobs.create(**body, extra_body={"x_sspo": extension}).id

    def cancel_jobs(self) -> None:
        """Cancel every job that has not ended."""
        for job in self.client.fine_tuning.jobs.list():
            if job.status not in ("succeeded", "failed", "cancelled"):
                self.client.fine_tuning.jobs.cancel(job.id)
                self.wait_for_end(job.id)

    def view(self, job_id: str) -> dict[str, Any]:
        """`GET /v1/x/jobs/{id}`; a killed API is waited for."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.client.get(f"/x/jobs/{job_id}", cast_to=dict[str, Any])
            except (APIConnectionError, InternalServerError):
                assert time.monotonic() < deadline, "the API did not come back"
                time.sleep(0.2)

    def scale(self, job_id: str, kind: str, replicas: int) -> None:
        self.client.put(f"/x/jobs/{job_id}/{kind}_workers", body={"replicas": replicas}, cast_to=dict[str, Any])

    def wait_for(self, job_id: str, what: Callable[[dict[str, Any]], bool], seconds: float) -> dict[str, Any]:
        """Poll the view until `what` holds. Fails when the job ends otherwise or time runs out."""
        deadline = time.monotonic() + seconds
        while not what(view := self.view(job_id)):
            assert view["status"] not in ("failed", "cancelled"), view["error"]
            assert time.monotonic() < deadline, view | {"spec": None, "drift": None}
            time.sleep(0.2)
        return view

    def wait_for_end(self, job_id: str) -> dict[str, Any]:
        """The view once a cancelled job is cleaned up: nothing runs and nothing is in flight."""
        wait_until(lambda: self.view(job_id)["ledger"]["in_flight"] == 0 and not self.view(job_id)["workers"], 60)
        return self.view(job_id)

    def workers(self, job_id: str, kind: str, state: str = "ready") -> list[dict[str, Any]]:
        return [worker for worker in self.view(job_id)["workers"] if (worker["kind"], worker["state"]) == (kind, state)]

    def family(self) -> list[psutil.Process]:
        """Every descendant of `sspo up`."""
        assert self.process is not None
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]

    def module(self, name: str) -> psutil.Process:
        """The child that runs `python -m NAME`."""
        [found] = [p for p in self.family() if p.cmdline()[1:3] == ["-m", name]]
        return found


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)

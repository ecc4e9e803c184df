"""`python -m services.reward` as `sspo up` starts it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from services.store.client import Client
from services.store.grader_requests import ask

GRADER = {
    "type": "regex_match",
    "name": "answer",
    "input": "{{sample.output_text}}",
    "pattern": r"#### (\d+)",
    "reference": "{{item.answer}}",
}


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def ends_within(pid: int, timeout_seconds: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_seconds)[0])
    finally:
        os.close(descriptor)


def test_the_service_answers_and_ends_cleanly_on_sigterm(client: Client, redis_url: str) -> None:
    service = subprocess.Popen(
        [sys.executable, "-m", "services.reward"], env={**os.environ, "SSPO_REDIS_URL": redis_url}
    )
    try:
        body = {"grader": GRADER, "model_sample": "so #### 42", "item": {"answer": 42}}
        reply = ask(client, "run", body, timeout_seconds=40.0)
        assert reply.status == 200 and reply.body["reward"] == 1.0
        graders = children(service.pid)
        assert graders
        service.send_signal(signal.SIGTERM)
        assert service.wait(15) == 0
        assert all(ends_within(pid, 1.0) for pid in graders)
    finally:
        service.kill()
        service.wait()


def test_grader_processes_end_when_the_service_is_killed(client: Client, redis_url: str) -> None:
    service = subprocess.Popen(
        [sys.executable, "-m", "services.reward"], env={**os.environ, "SSPO_REDIS_URL": redis_url}
    )
    try:
        ask(client, "validate", {"grader": GRADER}, timeout_seconds=40.0)
        graders = children(service.pid)
        assert graders
    finally:
        service.kill()
        service.wait()
    assert all(ends_within(pid, 10.0) for pid in graders)

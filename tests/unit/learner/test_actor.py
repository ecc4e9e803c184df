"""The learner's process: what hangs, ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.learner import actor
from services.learner.errors import CheckpointStalled, LearnerStalled
from services.learner.pulse import Pulse
from services.store.client import Client
from tests.support.tiny import create_job, job_spec


@pytest.fixture
def start(client: Client, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Starts the learner's process in this one."""
    spec = job_spec(stall_seconds=0.5, wait_seconds=0.5)
    create_job(client, spec)
    monkeypatch.setenv("SSPO_REDIS_URL", redis_url)
    monkeypatch.setenv("SSPO_DATA", str(tmp_path))
    return lambda: actor.LearnerProcess(spec.model_dump_json(), "learner-1")


class Doing:
    """A learner that does what a test says."""

    def __init__(self, pulse: Pulse, run: Callable[[Pulse], str]) -> None:
        self._pulse, self._run = pulse, run

    def run(self) -> str:
        return self._run(self._pulse)


def becomes(monkeypatch: pytest.MonkeyPatch, run: Callable[[Pulse], str]) -> None:
    monkeypatch.setattr(actor, "open_learner", lambda spec, client, layout, pulse: Doing(pulse, run))


def test_a_training_thread_that_hangs_is_named_and_ends_the_process(
    start: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hangs(pulse: Pulse) -> str:
        pulse.enter("publishing")
        released.wait(30)
        return "finished"

    becomes(monkeypatch, hangs)
    with pytest.raises(LearnerStalled, match="publishing has not moved for"):
        asyncio.run(start().run())
    released.set()


def test_a_checkpoint_that_hangs_ends_the_learner_and_not_the_job(
    start: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stalls(pulse: Pulse) -> str:
        raise CheckpointStalled("a checkpoint was not written within 600 s")

    becomes(monkeypatch, stalls)
    with pytest.raises(CheckpointStalled):  # what the controller sees as a death; a failed job is an answer
        asyncio.run(start().run())


def test_a_drain_reaches_the_learner(start: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def works(pulse: Pulse) -> str:
        while not pulse.stopping:
            pulse.beat()
            pulse.wait(0.05)
        return "drained"

    becomes(monkeypatch, works)
    process = start()
    asyncio.run(process.drain())
    assert asyncio.run(process.run()) == {"outcome": "drained", "code": "", "message": ""}

"""The learner's process: what hangs, ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.learner.actor import LearnerActor
from services.learner.errors import CheckpointStalled, LearnerStalled
from services.learner.loop import Learner
from services.store.client import Client
from tests.support.tiny import create_job, job_spec


@pytest.fixture
def start(client: Client, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Starts the learner's process in this one."""
    spec = job_spec(stall_seconds=0.5, wait_seconds=0.5)
    create_job(client, spec)
    monkeypatch.setenv("SSPO_REDIS_URL", redis_url)
    monkeypatch.setenv("SSPO_DATA", str(tmp_path))
    return lambda: LearnerActor.__ray_metadata__.modified_class(spec.model_dump_json(), "learner-1")


def test_a_training_thread_that_hangs_is_named_and_ends_the_process(
    start: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hangs(learner: Learner) -> str:
        learner._enter("publishing")
        released.wait(30)
        return "finished"

    monkeypatch.setattr(Learner, "run", hangs)
    with pytest.raises(LearnerStalled, match="publishing has not moved for"):
        asyncio.run(start().run())
    released.set()


def test_a_checkpoint_that_hangs_ends_the_learner_and_not_the_job(
    start: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stalls(learner: Learner) -> str:
        raise CheckpointStalled("a checkpoint was not written within 600 s")

    monkeypatch.setattr(Learner, "run", stalls)
    with pytest.raises(CheckpointStalled):  # what the controller sees as a death; a failed job is an answer
        asyncio.run(start().run())

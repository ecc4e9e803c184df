"""The learner's process: what hangs, ends."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from services.learner.actor import LearnerActor
from services.learner.errors import LearnerStalled
from services.learner.loop import Learner
from services.store.client import Client
from tests.support.tiny import create_job, job_spec


def test_a_training_thread_that_hangs_is_named_and_ends_the_process(
    client: Client, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = job_spec(stall_seconds=0.5, wait_seconds=0.5)
    create_job(client, spec)
    monkeypatch.setenv("SSPO_REDIS_URL", redis_url)
    monkeypatch.setenv("SSPO_DATA", str(tmp_path))
    released = threading.Event()

    def hangs(learner: Learner) -> str:
        learner._enter("publishing")
        released.wait(30)
        return "finished"

    monkeypatch.setattr(Learner, "run", hangs)
    process: Any = LearnerActor.__ray_metadata__.modified_class(spec.model_dump_json(), "learner-1")
    with pytest.raises(LearnerStalled, match="publishing has not moved for"):
        asyncio.run(process.run())
    released.set()

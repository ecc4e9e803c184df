"""A running worker, and periods short enough for a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.rollout.worker import RolloutWorker
from services.store.client import Client
from services.trajectories import streams
from tests.support.fake_engine import FakeEngine

from .bench import JOB, Bench, spec_of


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings() -> dict[str, Any]:
    """Settings of the job, which a test may parametrise."""
    return {}


@pytest.fixture
async def bench(client: Client, tmp_path: Path, settings: dict[str, Any]) -> AsyncIterator[Bench]:
    """A worker that runs; nothing is published yet."""
    (tmp_path / "config.json").write_text("{}")
    streams.prepare(client, JOB)
    engine, spec = FakeEngine(), spec_of(**settings)
    bench = Bench(client, tmp_path, engine, RolloutWorker(spec, "rollout-1", client, engine), spec)
    bench.run = asyncio.create_task(bench.worker.run())
    yield bench
    bench.run.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await bench.run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.rollout.upkeep.LEASE_SECONDS", 0.5)
    monkeypatch.setattr("services.rollout.upkeep.REFRESH_SECONDS", 0.05)
    for module in ("services.rollout.presence", "services.store.job.presence"):
        monkeypatch.setattr(f"{module}.BEAT_SECONDS", 0.1)

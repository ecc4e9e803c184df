"""One worker on a bench: a real Redis, and an engine that has no model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.job.spec import JobSpec
from services.records.worker import WorkerRecord
from services.rollout.worker import RolloutWorker
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.registry import Registry
from services.trajectories import streams
from services.trajectories.codec import decode_group, encode, ints
from services.trajectories.entries import TRAJECTORIES
from services.trajectories.progress import Progress
from services.weights.manifest import Canary
from services.weights.publish import publish
from sspo_proto.trajectory_pb2 import Group, PromptTask, Sampling
from tests.support.fake_engine import FakeEngine
from tests.support.tiny import job_spec

JOB = "ftjob-1"


def spec_of(wait_seconds: float = 20.0, **rollout: Any) -> JobSpec:
    spec = job_spec(JOB, wait_seconds=wait_seconds)
    settings = {"group_size": 2, "max_tokens": 200, "concurrent_groups": 2, "drain_seconds": 5.0, **rollout}
    return spec.model_copy(update={"rollout": spec.rollout.model_copy(update=settings)})


@dataclass
class Bench:
    """One worker, its engine and its job."""

    client: Client
    folder: Path
    engine: FakeEngine
    worker: RolloutWorker
    spec: JobSpec
    run: asyncio.Task[str] | None = None
    number: int = 0

    def publish(self, version: int, step: int) -> Path:
        path = publish(
            self.folder / "weights",
            {"w": torch.full((2,), float(version))},
            version=version,
            step=step,
            canary=Canary(token_ids=(1, 2), logprobs=(-1.0,)),
            model_files=self.folder,
            dtype=torch.float32,
        )
        Progress(self.client).publish(JOB, epoch=1, version=version, step=step, path=str(path))
        return path

    def dispatch(self, *, step: int = 0, payload: bytes | None = None, **task: Any) -> int:
        number, self.number = self.number, self.number + 1
        assert streams.dispatch(self.client, JOB, number, payload or encode(task_of(number, **task)), step)
        return number

    def evaluate(self, number: int, **task: Any) -> None:
        payload = encode(task_of(number, group_size=1, temperature=0.0, **task))
        streams.add_evaluation(self.client, JOB, number, payload, 0)

    def handed_over(self, name: str = TRAJECTORIES) -> dict[int, Group]:
        entries = streams.read_after(self.client, JOB, name, "0")
        return {entry.number: decode_group(entry.payload) for entry in entries}

    @property
    def record(self) -> WorkerRecord | None:
        return next(iter(Registry(self.client).list(JOB)), None)

    @property
    def error_codes(self) -> list[str]:
        return [event.data["code"] for event in Events(self.client).list(JOB)[0] if event.data]

    async def end(self, seconds: float = 5.0) -> str:
        """What `run` answers or raises, by itself."""
        assert self.run is not None
        return await asyncio.wait_for(self.run, seconds)

    async def beats(self, count: int) -> None:
        """Returns once so many heartbeats came: the worker's loop has turned as often."""
        seen = set[float]()
        while len(seen) <= count:
            if self.record is not None:
                seen.add(self.record.heartbeat)
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """End the worker as a crash would, if it still runs."""
        assert self.run is not None
        self.run.cancel()
        await asyncio.wait({self.run})

    async def drained(self) -> str:
        self.worker.drain()
        assert self.run is not None
        return await asyncio.wait_for(self.run, 10)


def task_of(
    number: int, *, max_tokens: int = 5, group_size: int = 2, temperature: float = 1.0, **task: Any
) -> PromptTask:
    sampling = Sampling(
        temperature=temperature, max_tokens=max_tokens, seed=number, group_size=group_size, stop_token_ids=[2]
    )
    fields = {"prompt_token_ids": ints([3, 4, number]), **task}
    return PromptTask(schema_version=1, job_id=JOB, group_number=number, sampling=sampling, **fields)


async def until(condition: Callable[[], Any], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)

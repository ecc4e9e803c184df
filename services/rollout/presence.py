"""What others see of a rollout worker: its record in the registry, and the event that says how it ended.

The heartbeat is written by the worker's loop itself: a loop that hangs falls silent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time

import structlog

from services.rollout.weights import CanaryFailed
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.registry import Registry, WorkerRecord, WorkerState
from services.trajectories.tallies import Tallies

log = structlog.get_logger()

BEAT_SECONDS = 1.0


class Presence:
    """One worker's record. `state` is what it does, unless it is `draining`."""

    def __init__(self, client: Client, job_id: str, worker_id: str, metrics_address: str) -> None:
        self._registry = Registry(client)
        self._events = Events(client)
        self._tallies = Tallies(client)
        self._job_id = job_id
        self._id = worker_id
        self._metrics_address = metrics_address
        self._next = 0.0
        self._version = 0
        self.state: WorkerState = "starting"
        self.draining = False

    def loading(self, seconds: float) -> None:
        """Weights have been loading for so long. `syncing` is what lasts longer than a heartbeat: where steps are
        short, who looks at heartbeats would see hardly anything else."""
        if self.state == "ready" and seconds > BEAT_SECONDS:
            self.state = "syncing"

    async def beat(self, policy_version: int, **detail: int | None) -> bool:
        """Write the record when it is due; says whether it was."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next, self._version = now + BEAT_SECONDS, policy_version
        record = WorkerRecord(
            id=self._id,
            kind="rollout",
            state="draining" if self.draining and self.state != "failed" else self.state,
            policy_version=policy_version,
            node=socket.gethostname(),
            pid=os.getpid(),
            heartbeat=time.time(),
            detail={**detail, "metrics_address": self._metrics_address},
        )
        await asyncio.to_thread(self._registry.put, self._job_id, record)
        return True

    async def report(self, error: Exception) -> None:
        """The event and the record of a worker that has to go."""
        code = type(error).__name__
        log.error("rollout_failed", code=code, error=str(error))
        data = {"worker": self._id, "code": code, "policy_version": self._version}
        if isinstance(error, CanaryFailed):
            await asyncio.to_thread(self._tallies.canary_failed, self._job_id)
        message = f"{self._id}: {code}: {error}"
        await asyncio.to_thread(self._events.add, self._job_id, message, level="error", data=data)
        self.state, self._next = "failed", 0.0
        await self.beat(self._version)

"""Shows a rollout worker to others: its state in the registry, and the event that says how it ended.

The worker's loop itself writes the heartbeat: a loop that hangs falls silent.
"""

from __future__ import annotations

import asyncio

import structlog

from services.records.worker import WorkerDetail, WorkerState
from services.rollout.proven_weights import CanaryFailed
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.presence import BEAT_SECONDS, Presence
from services.trajectories.tallies import Tallies

log = structlog.get_logger()


class RolloutPresence:
    """One worker's state. `state` is what it does, unless it is `draining`."""

    def __init__(self, client: Client, job_id: str, worker_id: str, metrics_address: str) -> None:
        self._presence = Presence(client, job_id, worker_id, "rollout", metrics_address)
        self._events = Events(client)
        self._tallies = Tallies(client)
        self._job_id = job_id
        self._id = worker_id
        self._version = 0
        self.state: WorkerState = "starting"
        self.draining = False

    def loading(self, seconds: float) -> None:
        """Note for how long weights have been loading. The state becomes `syncing` only after a heartbeat's period.

        A job with short steps loads all the time. Its workers would otherwise hardly ever be seen as ready.
        """
        if self.state == "ready" and seconds > BEAT_SECONDS:
            self.state = "syncing"

    async def beat(self, policy_version: int, detail: WorkerDetail | None = None) -> bool:
        """Write the record when it is due; says whether it was."""
        if not self._presence.due():
            return False
        await self._say(policy_version, detail)
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
        self.state = "failed"
        await self._say(self._version)

    async def _say(self, policy_version: int, detail: WorkerDetail | None = None) -> None:
        self._version = policy_version
        state = "draining" if self.draining and self.state != "failed" else self.state
        await asyncio.to_thread(self._presence.say, state, policy_version, detail)

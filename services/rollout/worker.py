"""A rollout worker: takes prompts, samples groups, hands them over; changes weights while it samples.

One loop does everything that has an order: weights, heartbeat, leases, taking. Each group is a task of its own. An
error that breaks the engine or its proof ends `run`, and the process has to go. If the groups can't be the cause, the
worker gives their leases back. If they may be, it lets the leases run out, so the death is counted against them.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from services.job.spec import JobSpec
from services.rollout.engine import Engine, EngineBroken, LoadRefused
from services.rollout.following import POLL_SECONDS, Follower
from services.rollout.groups.in_work import GroupsInWork
from services.rollout.groups.lane import Lanes
from services.rollout.groups.sampler import Sampler
from services.rollout.presence import RolloutPresence
from services.rollout.proven_weights import CanaryFailed, ProvenWeights
from services.rollout.upkeep import Upkeep
from services.store.client import Client
from services.weights.file_store import BadManifest, VersionGone

log = structlog.get_logger()


class NoWeights(Exception):
    """No version was published in time."""


class RolloutWorker:
    """Samples groups of one job until it is drained."""

    def __init__(
        self, spec: JobSpec, worker_id: str, client: Client, engine: Engine, metrics_address: str = ""
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._weights = ProvenWeights(engine, worker_id, spec.rollout.dtype)
        self._lanes = Lanes.of(client, spec.job_id, worker_id)
        sampler = Sampler(spec, worker_id, client, engine, self._weights)
        self._groups = GroupsInWork(spec, self._lanes, sampler)
        self._presence = RolloutPresence(client, spec.job_id, worker_id, metrics_address)
        self._upkeep = Upkeep(engine, self._weights, self._lanes, self._groups, sampler, self._presence)
        self._follower = Follower(spec, client, self._weights, self._upkeep)
        self._drain_deadline = 0.0

    def drain(self) -> None:
        """Take no new groups; `run` ends when those in work are done, or gives them back after `drain_seconds`."""
        if not self._presence.draining:
            self._presence.draining = True
            self._drain_deadline = time.monotonic() + self._spec.rollout.drain_seconds

    async def run(self) -> str:
        """Work until drained; answers "drained".

        Raises EngineBroken, LoadRefused, CanaryFailed, VersionGone, BadManifest, NoWeights, StoreError.
        """
        try:
            await self._start()
            await self._serve()
            await self._leave()
        except (LoadRefused, CanaryFailed, VersionGone, BadManifest, NoWeights) as error:
            await self._leave()
            await self._presence.report(error)
            raise
        except EngineBroken as error:
            await self._presence.report(error)
            raise
        finally:
            await self._groups.abandon()
            await self._upkeep.stop()
            await self._engine.stop()
        return "drained"

    async def _start(self) -> None:
        """Wait for published weights, and start the engine on them."""
        deadline = time.monotonic() + self._spec.learner.wait_seconds
        while not await self._follower.follow() and not self._presence.draining:
            if time.monotonic() > deadline:
                raise NoWeights(f"no weights were published within {self._spec.learner.wait_seconds:.0f} s")
            await self._upkeep.beat()
            await asyncio.sleep(POLL_SECONDS)

    async def _serve(self) -> None:
        while not self._presence.draining or (len(self._groups) and time.monotonic() < self._drain_deadline):
            await self._follower.follow_when_due()
            self._groups.check_deadlines()
            await self._upkeep.look()
            await self._fill()
            await self._groups.collect()

    async def _fill(self) -> None:
        """Begin groups while there is room."""
        while not self._presence.draining and (found := await self._groups.next()):
            lane, entry = found
            if entry.step > self._weights.step:
                await self._follower.follow()  # issued after a publish that we may not have seen yet
            self._groups.begin(lane, entry)

    async def _leave(self) -> None:
        """Abandon the groups in work and give back all entries that are held."""
        await self._groups.abandon()
        log.info("groups_given_back", groups=await self._lanes.give_back())

"""Upkeep beside all other work of a rollout worker: heartbeat, leases, and the question whether the engine turns.

Invariant: leases are refreshed only while the engine is known to turn, or while it loads under a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from services.records.worker import WorkerDetail
from services.rollout.engine import Engine, EngineBroken
from services.rollout.groups.in_work import GroupsInWork
from services.rollout.groups.lane import Lanes
from services.rollout.groups.sampler import Sampler
from services.rollout.presence import RolloutPresence
from services.rollout.proven_weights import ProvenWeights
from services.rollout.watch import EngineWatch

REFRESH_SECONDS = 3.0
"""Period of the refresh of leases."""
LEASE_SECONDS = 30.0
"""Entries that were not refreshed for so long are taken over."""
WAIT_SECONDS = 0.05


class Upkeep:
    """Of one worker."""

    def __init__(
        self,
        engine: Engine,
        weights: ProvenWeights,
        lanes: Lanes,
        groups: GroupsInWork,
        sampler: Sampler,
        presence: RolloutPresence,
    ) -> None:
        self._engine = engine
        self._weights = weights
        self._lanes = lanes
        self._groups = groups
        self._sampler = sampler
        self._presence = presence
        self._watch = EngineWatch(engine)
        self._refreshed_at = 0.0

    async def look(self) -> None:
        """With each heartbeat: ask the engine, refresh leases, take over entries of dead workers. Raises
        EngineBroken."""
        if not await self.beat():
            return
        self._watch.look()
        if self._watch.alive_at > self._refreshed_at + REFRESH_SECONDS:
            await self._refresh()
        if not self._presence.draining:
            await self._lanes.take_over(LEASE_SECONDS, self._groups.room)

    async def beat(self) -> bool:
        """The heartbeat, when it is due; says whether it was."""
        return await self._presence.beat(
            self._weights.version,
            WorkerDetail(
                engine_pid=self._engine.pid, groups_in_flight=len(self._groups), tokens_total=self._sampler.tokens
            ),
        )

    async def during_load(self, load: Coroutine[Any, Any, None], limit_seconds: float) -> None:
        """Have the engine load weights; heartbeat and leases go on meanwhile.

        Raises what `load` does, and EngineBroken after `limit_seconds` or when the engine's process is gone.
        """
        await self.stop()  # the load has a deadline of its own
        began = time.monotonic()
        task = asyncio.create_task(load)
        try:
            while not task.done():
                loading_seconds = time.monotonic() - began
                if loading_seconds > limit_seconds:
                    raise EngineBroken(f"loading weights took longer than {limit_seconds:.0f} s")
                if self._weights.version and self._engine.pid is None:
                    # A call to an engine that dies meanwhile may never be answered.
                    raise EngineBroken("the engine's process is gone")
                self._presence.loading(loading_seconds)
                await self.beat()
                if time.monotonic() > self._refreshed_at + REFRESH_SECONDS:
                    await self._refresh()
                await asyncio.wait({task}, timeout=WAIT_SECONDS)
        finally:
            task.cancel()
        await task
        self._presence.state = "ready"

    async def stop(self) -> None:
        """Forget an open question to the engine."""
        await self._watch.stop()

    async def _refresh(self) -> None:
        self._refreshed_at = time.monotonic()
        await self._lanes.refresh()

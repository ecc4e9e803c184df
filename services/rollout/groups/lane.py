"""A lane for asyncio: each call runs in a thread, so that the loop never waits for Redis.

A cancellation does not cut off a call: its thread ends it. Otherwise an entry could be taken and then lost to this
worker.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.store.client import Client
from services.trajectories.entries import EVAL_PROMPTS, EVAL_TRAJECTORIES, PROMPTS, TRAJECTORIES, Entry
from services.trajectories.lane import Lane
from services.trajectories.outcomes import GroupFailed


@dataclass(frozen=True)
class AsyncLane:
    """The methods of `Lane`, awaited; `evaluation` says whose groups it carries."""

    lane: Lane
    evaluation: bool

    async def take(self) -> Entry | None:
        """The next entry to work on, or None; never waits for one."""
        return await asyncio.to_thread(self.lane.take)

    async def take_over(self, idle_seconds: float, room: int) -> None:
        """Hold up to `room` entries of dead or hung consumers."""
        if room > 0:
            await asyncio.to_thread(self.lane.take_over, idle_seconds, room)

    async def refresh(self) -> None:
        """Refresh the leases of everything held."""
        await asyncio.to_thread(self.lane.refresh)

    async def hand_over(self, entry: Entry, payload: bytes, step: int, sampled_tokens: int) -> bool:
        """Move the group on. False: the entry was no longer ours; its sampled tokens are counted as wasted."""
        return await asyncio.to_thread(self.lane.hand_over, entry, payload, step, sampled_tokens=sampled_tokens)

    async def bury(self, entry: Entry, error: GroupFailed, failure: bytes) -> bool:
        """Keep a copy of the message for people; `failure` goes on for its number. False: the entry was no longer
        ours."""
        return await asyncio.to_thread(self.lane.bury, entry, error, failure)

    async def give_back(self) -> int:
        """Return everything held, to be taken over by others at once. Returns how many."""
        return await asyncio.to_thread(self.lane.give_back)


@dataclass(frozen=True)
class Lanes:
    """Both lanes of a rollout worker."""

    training: AsyncLane
    evaluation: AsyncLane

    @classmethod
    def of(cls, client: Client, job_id: str, worker_id: str) -> Lanes:
        """The lanes of one job, as this worker."""
        training = Lane(client, job_id, PROMPTS, TRAJECTORIES, worker_id)
        evaluation = Lane(client, job_id, EVAL_PROMPTS, EVAL_TRAJECTORIES, worker_id)
        return cls(AsyncLane(training, evaluation=False), AsyncLane(evaluation, evaluation=True))

    async def take_over(self, idle_seconds: float, room: int) -> None:
        """Hold up to `room` entries of dead or hung consumers, in each lane."""
        await self.training.take_over(idle_seconds, room)
        await self.evaluation.take_over(idle_seconds, room)

    async def refresh(self) -> None:
        """Refresh the leases of everything held."""
        await self.training.refresh()
        await self.evaluation.refresh()

    async def give_back(self) -> int:
        """Return everything held. Returns how many entries."""
        return await self.training.give_back() + await self.evaluation.give_back()

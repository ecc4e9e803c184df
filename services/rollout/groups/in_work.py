"""The groups a worker samples now, and which entry it may begin next.

Each group is a task of its own with a deadline. An evaluation is one completion. Evaluations always have as many places
as one more group would, and more when training leaves places free.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from services.job.spec import JobSpec
from services.rollout.engine import EngineBroken
from services.rollout.groups.lane import AsyncLane, Lanes
from services.rollout.groups.sampler import Sampler
from services.trajectories.entries import Entry

WAIT_SECONDS = 0.05
"""The longest wait for a group to end, or for a new prompt."""
ABORT_SECONDS = 1.0
"""How long cancelled groups may take to abort their requests."""


@dataclass(frozen=True)
class _Running:
    entry: Entry
    evaluation: bool
    deadline: float
    """In monotonic seconds."""


class GroupsInWork:
    """The groups one worker samples now."""

    def __init__(self, spec: JobSpec, lanes: Lanes, sampler: Sampler) -> None:
        self._most = spec.rollout.concurrent_groups
        self._reserved = spec.rollout.group_size
        self._limit_seconds = spec.learner.wait_seconds
        self._lanes = lanes
        self._sampler = sampler
        self._running: dict[asyncio.Task[None], _Running] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def room(self) -> int:
        """Groups that may be begun."""
        return self._most - len(self._running)

    async def next(self) -> tuple[AsyncLane, Entry] | None:
        """The next entry, with its lane; None if there is no free place or no entry."""
        evaluations = sum(running.evaluation for running in self._running.values())
        if len(self._running) - min(self._reserved, evaluations) < self._most:
            entry = await self._lanes.training.take()
            if entry is not None:
                return self._lanes.training, entry
        if evaluations < self._reserved or self.room > 0:
            entry = await self._lanes.evaluation.take()
            if entry is not None:
                return self._lanes.evaluation, entry
        return None

    def begin(self, lane: AsyncLane, entry: Entry) -> None:
        """Sample an entry's group, as a task."""
        task = asyncio.create_task(self._sampler.handle(lane, entry))
        self._running[task] = _Running(entry, lane.evaluation, time.monotonic() + self._limit_seconds)

    def check_deadlines(self) -> None:
        """Raises EngineBroken when a group takes longer than `learner.wait_seconds`."""
        now = time.monotonic()
        late = [running.entry.number for running in self._running.values() if now > running.deadline]
        if late:
            raise EngineBroken(f"groups {late[:4]} took longer than {self._limit_seconds:.0f} s")

    async def collect(self) -> None:
        """Wait a moment for groups to end; raises what ended one."""
        if not self._running:
            await asyncio.sleep(WAIT_SECONDS)
            return
        done, _ = await asyncio.wait(self._running, timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._running[task]
            task.result()

    async def abandon(self) -> None:
        """Cancel all groups; their requests are aborted, their entries stay held."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=ABORT_SECONDS)
        self._running.clear()

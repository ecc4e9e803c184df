"""Follows the published weights: the engine gets the newest version, as soon as it is seen."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from services.job.spec import JobSpec
from services.rollout.proven_weights import ProvenWeights
from services.rollout.upkeep import Upkeep
from services.store.client import Client
from services.trajectories.progress import Progress, ProgressRecord
from services.weights.file_store import VersionGone

POLL_SECONDS = 0.05
"""Period of looking for newer weights."""


class Follower:
    """Loads what the learner publishes into one engine."""

    def __init__(self, spec: JobSpec, client: Client, weights: ProvenWeights, upkeep: Upkeep) -> None:
        self._job_id = spec.job_id
        self._limit_seconds = spec.learner.wait_seconds
        self._progress = Progress(client)
        self._weights = weights
        self._upkeep = upkeep
        self._next_look = 0.0

    async def follow_when_due(self) -> None:
        """`follow`, at most every POLL_SECONDS."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + POLL_SECONDS
            await self.follow()

    async def follow(self) -> bool:
        """Load the newest published version if it is not the one we have; says whether there is any.

        Raises LoadRefused, CanaryFailed, EngineBroken, BadManifest, and VersionGone for a version that is gone although
        none is newer.
        """
        record = await self._read()
        if record.policy_version > self._weights.version:
            await self._load(record)
        return record.policy_version > 0

    async def _load(self, record: ProgressRecord) -> None:
        while True:
            try:
                load = self._weights.load(Path(record.published_path))
                return await self._upkeep.during_load(load, self._limit_seconds)
            except VersionGone:  # collected before we came to it: a newer one was published then
                newer = await self._read()
                if newer.policy_version <= record.policy_version:
                    raise
                record = newer

    async def _read(self) -> ProgressRecord:
        return await asyncio.to_thread(self._progress.read, self._job_id)

"""Knows which weights the engine holds, and which of them it has proven to hold.

Invariant: a version counts as passed only after this engine, in this incarnation, has answered its canary. A finished
group waits for the verdict on every version in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import structlog

from services.observability.meters import METERS
from services.rollout.engine import Engine, EngineBroken, LoadRefused
from services.weights.canary import check
from services.weights.file_store import held, read_manifest
from services.weights.manifest import TENSORS_FILE, Manifest

log = structlog.get_logger()

KEPT_VERSIONS = 1024
"""Versions that are remembered; no completion lasts as long as that many loads."""


class CanaryFailed(Exception):
    """After a load the engine does not answer as the learner did: it does not have the weights it was given."""


class ProvenWeights:
    """The weights of one engine."""

    def __init__(self, engine: Engine, holder: str, dtype: str) -> None:
        self._engine = engine
        self._holder = holder
        self._dtype = dtype
        self._cold_mismatch: float | None = None
        self._passed: set[int] = set()
        self._verdict = asyncio.Condition()
        self.version = 0
        """Newest version that passed; 0 before the first."""
        self.steps: dict[int, int] = {}
        """Version to step, of the newest versions the engine was given."""

    @property
    def step(self) -> int:
        """Step of `version`."""
        return self.steps.get(self.version, 0)

    async def load(self, folder: Path) -> None:
        """Give the engine a version, by a cold start the first time, and have it proven.

        Raises VersionGone before anything happened; LoadRefused, CanaryFailed, EngineBroken.
        """
        manifest = read_manifest(folder)
        cold, started = not self.steps, time.monotonic()
        try:
            with held(folder, self._holder) as private:
                self.steps[manifest.version] = manifest.step
                size_bytes = (private / TENSORS_FILE).stat().st_size
                await (self._engine.start if cold else self._engine.load)(private, manifest)
            loaded = time.monotonic()
            mismatch = await self._prove(manifest)
        except (LoadRefused, CanaryFailed, EngineBroken) as error:
            METERS.count("sspo_weight_sync_failures_total", cause=type(error).__name__)
            raise
        METERS.observe("sspo_weight_sync_seconds", time.monotonic() - started)
        METERS.count("sspo_weight_sync_bytes_total", size_bytes)
        log.info(
            "weights_loaded",
            version=manifest.version,
            step=manifest.step,
            cold=cold,
            load_seconds=round(loaded - started, 4),
            canary_seconds=round(time.monotonic() - loaded, 4),
            canary_mismatch=mismatch,
        )

    async def passed(self, versions: Iterable[int]) -> None:
        """Returns once all `versions` have passed."""
        wanted = set(versions)
        async with self._verdict:
            await self._verdict.wait_for(lambda: wanted <= self._passed)

    async def _prove(self, manifest: Manifest) -> float:
        got = await self._engine.canary(manifest.canary.token_ids)
        result = check(manifest.canary.logprobs, got, dtype=self._dtype, cold_mismatch=self._cold_mismatch)
        if not result.passed:
            raise CanaryFailed(
                f"version {manifest.version}: log-probs differ by {result.mismatch:.3g}, allowed is {result.limit:.3g}"
            )
        if self._cold_mismatch is None:
            self._cold_mismatch = result.mismatch
        async with self._verdict:
            self._passed.add(manifest.version)
            self._forget_below(manifest.version - KEPT_VERSIONS)
            self.version = manifest.version
            self._verdict.notify_all()
        return result.mismatch

    def _forget_below(self, version: int) -> None:
        for old in [known for known in self.steps if known < version]:
            del self.steps[old]
            self._passed.discard(old)

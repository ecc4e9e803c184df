"""The Ray actor around a rollout worker.

The module is cheap to import: the engine's environment has to be set before vllm is imported, in the actor's process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os

import ray
import structlog

from services.job.spec import JobSpec
from services.observability import exporter, logs
from services.settings.processes import StoreSettings
from services.store.client import connect

log = structlog.get_logger()


class RolloutProcess:
    """Starts its loop at the first `run`. Later calls, by a controller that adopts the actor, wait for that loop."""

    def __init__(self, spec_json: str, worker_id: str) -> None:
        logs.configure(worker_id)
        spec = JobSpec.model_validate_json(spec_json)
        from services.rollout.environment import engine_environment

        os.environ.update(engine_environment(spec.rollout))
        from services.rollout.vllm_engine import VllmEngine
        from services.rollout.worker import RolloutWorker

        engine = VllmEngine(spec.rollout, seed=spec.seed)
        client = connect(StoreSettings.read().redis_url)
        self._worker = RolloutWorker(spec, worker_id, client, engine, exporter.serve_address())
        self._loop: asyncio.Task[str] | None = None

    async def run(self) -> str:
        """Sample until drained; answers "drained". Any other end takes the process with it: nothing in it is sound."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._work())
        return await asyncio.shield(self._loop)

    async def drain(self) -> None:
        self._worker.drain()

    async def _work(self) -> str:
        try:
            return await self._worker.run()
        except BaseException:  # the process's boundary, and a cancelled call of a dying engine is one too
            log.exception("rollout_died")
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(1)


RolloutActor = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(RolloutProcess)

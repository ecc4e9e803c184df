"""The Ray actor around a reward worker."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import ray

from services.job.spec import JobSpec
from services.observability import exporter, logs
from services.reward.worker import RewardWorker
from services.settings.processes import FolderSettings
from services.store.client import connect


class RewardProcess:
    """Starts its loop when it is made. `run` waits for that loop, however many controllers call it."""

    def __init__(self, spec_json: str, worker_id: str) -> None:
        logs.configure(worker_id)
        spec, settings = JobSpec.model_validate_json(spec_json), FolderSettings.read()
        client = connect(settings.redis_url)
        self._worker = RewardWorker(spec, worker_id, client, settings.layout, exporter.serve_address())
        self._loop = ThreadPoolExecutor(1).submit(self._worker.run)

    async def run(self) -> str:
        """Wait for the loop: "drained", or what it raised. Async, so that waiting controllers take no thread."""
        return await asyncio.wrap_future(self._loop)

    async def drain(self) -> None:
        self._worker.drain()


RewardActor = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(RewardProcess)

"""The workers of a job, by their records.

Invariant: only its worker writes a record, and the controller that saw the worker go removes it.
"""

from __future__ import annotations

from typing import Any

from services.records.worker import WorkerRecord
from services.store import keys
from services.store.client import Client


class Registry:
    """Writes and reads worker records."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, worker: WorkerRecord) -> None:
        """Store what a worker says of itself."""
        self._client.hset(keys.workers(job_id), worker.id, worker.to_json())

    def list(self, job_id: str) -> list[WorkerRecord]:
        """All workers of a job, by kind and id."""
        stored: Any = self._client.hvals(keys.workers(job_id))
        workers = [WorkerRecord.model_validate_json(value) for value in stored]
        return sorted(workers, key=lambda worker: (worker.kind, worker.id))

    def remove(self, job_id: str, worker_id: str) -> None:
        """Forget a worker that is gone."""
        self._client.hdel(keys.workers(job_id), worker_id)

    def clear(self, job_id: str) -> None:
        """Forget all workers of a job."""
        self._client.delete(keys.workers(job_id))

"""The workers of a job, by their records.

Invariant: only its worker writes a record, and the controller that saw the worker go removes it.
"""

from __future__ import annotations

from typing import Any

import structlog

from services.records.worker import WorkerRecord
from services.store import keys
from services.store.client import Client

log = structlog.get_logger()


class Registry:
    """Writes and reads worker records."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, worker: WorkerRecord) -> None:
        """Store a worker's record."""
        self._client.hset(keys.workers(job_id), worker.id, worker.to_json())

    def list(self, job_id: str) -> list[WorkerRecord]:
        """All workers of a job, by kind and id; one whose record can't be read is left out and named in the log."""
        stored: Any = self._client.hvals(keys.workers(job_id))
        workers = []
        for value in stored:
            try:
                workers.append(WorkerRecord.from_json(value))
            except ValueError as error:
                log.warning("worker_unreadable", job=job_id, reason=str(error))
        return sorted(workers, key=lambda worker: (worker.kind, worker.id))

    def remove(self, job_id: str, worker_id: str) -> None:
        """Forget a worker that is gone."""
        self._client.hdel(keys.workers(job_id), worker_id)

    def clear(self, job_id: str) -> None:
        """Forget all workers of a job."""
        self._client.delete(keys.workers(job_id))

"""Writes the record of a worker about once a second. All kinds of workers have the same record.

Invariant: only the worker's own loop, or a thread that watches it, calls this. So a worker that hangs falls silent.
"""

from __future__ import annotations

import os
import socket
import time

from services.records.worker import WorkerDetail, WorkerKind, WorkerRecord, WorkerState
from services.store.client import Client
from services.store.job.registry import Registry

BEAT_SECONDS = 1.0
"""Period of the heartbeat."""


class Presence:
    """One worker's record in the registry. Raises StoreError where it can't be written."""

    def __init__(
        self, client: Client, job_id: str, worker_id: str, kind: WorkerKind, metrics_address: str = ""
    ) -> None:
        self._registry = Registry(client)
        self._job_id = job_id
        self._id = worker_id
        self._kind = kind
        self._metrics_address = metrics_address
        self._next = 0.0

    def due(self) -> bool:
        """Whether the last record is a period old."""
        return time.monotonic() >= self._next

    def say(self, state: WorkerState, policy_version: int = 0, detail: WorkerDetail | None = None) -> None:
        """Write the record now; `detail` is what this kind of worker adds."""
        self._next = time.monotonic() + BEAT_SECONDS
        record = WorkerRecord(
            id=self._id,
            kind=self._kind,
            state=state,
            policy_version=policy_version,
            node=socket.gethostname(),
            pid=os.getpid(),
            heartbeat=time.time(),
            detail=(detail or WorkerDetail()).model_copy(update={"metrics_address": self._metrics_address}),
        )
        self._registry.put(self._job_id, record)

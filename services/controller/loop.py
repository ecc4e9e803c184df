"""The reconcile loop: one controller in charge, every job a few times a second."""

from __future__ import annotations

import os
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import ray
import structlog
from ray.exceptions import RaySystemError

from services.controller.fleet import NAMESPACE
from services.controller.job import JobReconciler
from services.layout import Layout
from services.store import keys
from services.store.client import Client, StoreError, call
from services.store.jobs import JobError, JobRecord, Jobs
from services.store.transitions import TRANSITIONS, Status

log = structlog.get_logger()

TICK_SECONDS = 0.1
LEASE_SECONDS = 10
MAX_TROUBLES = 20
"""Looks at a job in a row that may end in an error before the job fails with it."""
ACTIVE = (Status.RUNNING, Status.PAUSING)


class LostLease(Exception):
    """Another controller is in charge."""


def connect_ray(address: str) -> None:
    """Become a driver of the Ray cluster. Ray takes over the signals' handlers: set yours afterwards."""
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)


class Controller:
    """Takes jobs through their lives until stopped."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._jobs = Jobs(client)
        self._reconcilers: dict[str, JobReconciler] = {}
        self._troubles: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prepare")
        self._max_running = int(os.environ.get("SSPO_MAX_RUNNING_JOBS", "1"))
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Wait for the lease, then reconcile until stopped. Raises LostLease, StoreError and Ray's errors."""
        while not self._stopped and not self._lease():
            time.sleep(1.0)
        log.info("controller_in_charge", id=self._id)
        try:
            while not self._stopped:
                if not self._lease():
                    raise LostLease(self._id)
                self._tick()
                time.sleep(TICK_SECONDS)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._release()

    def _tick(self) -> None:
        records = [self._jobs.get(job_id) for job_id in self._jobs.ids()]
        running = sum(record.status in ACTIVE for record in records)
        for record in records:
            if record.cleaned and record.status in (Status.SUCCEEDED, Status.CANCELLED, Status.FAILED):
                self._reconcilers.pop(record.id, None)
                continue
            may_start = running < self._max_running
            self._one_job(record, may_start)
            if record.status is Status.QUEUED and may_start:
                running += 1

    def _one_job(self, record: JobRecord, may_start: bool) -> None:
        """One look at one job. What goes wrong with it does not stop the others, and not for ever."""
        try:
            self._reconciler(record).tick(record, may_start)
            self._troubles.pop(record.id, None)
        except (StoreError, RaySystemError):  # not the job's fault: end, and let a new controller begin
            raise
        except Exception as error:
            log.exception("job_tick_failed", job=record.id)
            troubles = self._troubles[record.id] = self._troubles.get(record.id, 0) + 1
            self._reconcilers.pop(record.id, None)
            if troubles >= MAX_TROUBLES and Status.FAILED in TRANSITIONS[record.status]:
                failure = JobError(code="controller_error", message=f"{type(error).__name__}: {error}", param=None)
                message = f"The job failed: {failure.message}"
                self._jobs.transition(record.id, Status.FAILED, by="controller", message=message, error=failure)

    def _reconciler(self, record: JobRecord) -> JobReconciler:
        if record.id not in self._reconcilers:
            self._reconcilers[record.id] = JobReconciler(record, self._client, self._layout, self._pool)
        return self._reconcilers[record.id]

    def _lease(self) -> bool:
        return bool(call(self._client, "lease", [keys.CONTROLLER], [self._id, LEASE_SECONDS]))

    def _release(self) -> None:
        try:
            call(self._client, "lease", [keys.CONTROLLER], [self._id, 0])
        except StoreError as error:
            log.warning("lease_not_released", reason=str(error))

"""The reconcile loop: one controller in charge, every job a few times a second."""

from __future__ import annotations

import os
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import ray
import structlog
from ray.exceptions import RaySystemError

from services.controller.job.reconciler import JobReconciler
from services.controller.workers.fleet import NAMESPACE
from services.controller.workers.nodes import NodeWatch
from services.disk.layout import Layout
from services.settings.processes import PlacementSettings
from services.store import keys
from services.store.client import Client, CommandRefused, StoreError, call
from services.store.job.jobs import JobNotFound, Jobs
from services.store.job.record import JobError, JobRecord
from services.store.job.transitions import IllegalTransition, Status

log = structlog.get_logger()

TICK_SECONDS = 0.1
LEASE_SECONDS = 10
MAX_TROUBLES = 12
"""A job fails with its error after so many looks in a row ended in one. The pauses between them grow."""
LONGEST_PAUSE_SECONDS = 10.0
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
        self._nodes = NodeWatch(client)
        self._reconcilers: dict[str, JobReconciler] = {}
        self._troubles: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._cleaned: dict[str, Status] = {}
        self._running = 0
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prepare")
        self._max_running = PlacementSettings.read().max_running_jobs
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
                self._keep_lease()
                self._nodes.look()
                self._tick()
                time.sleep(TICK_SECONDS)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._release()

    def _tick(self) -> None:
        statuses = self._jobs.statuses()
        self._running = sum(status in ACTIVE for status in statuses.values())
        for job_id, status in statuses.items():
            if self._cleaned.get(job_id) is not status and time.monotonic() >= self._not_before.get(job_id, 0.0):
                self._keep_lease()  # before every job: a controller that was stopped for a while acts on none
                self._one_job(job_id)

    def _one_job(self, job_id: str) -> None:
        """One look at one job. Trouble with it does not stop the other jobs; it is looked at again after a pause that
        grows."""
        try:
            record = self._jobs.get(job_id)
            if record.cleaned_as is record.status:
                self._cleaned[job_id] = record.status
                self._reconcilers.pop(job_id, None)
                return
            may_start = self._running < self._max_running
            self._reconciler(record).tick(record, may_start)
            self._running += record.status is Status.QUEUED and may_start
            self._troubles.pop(job_id, None)
        except (RaySystemError, StoreError) as error:
            if not isinstance(error, CommandRefused):  # not the job's fault: end, and let a new controller begin
                raise
            self._trouble(job_id, error)
        except Exception as error:  # noqa: BLE001 — one job's boundary
            self._trouble(job_id, error)

    def _trouble(self, job_id: str, error: Exception) -> None:
        log.exception("job_tick_failed", job=job_id)
        troubles = self._troubles[job_id] = self._troubles.get(job_id, 0) + 1
        self._not_before[job_id] = time.monotonic() + min(LONGEST_PAUSE_SECONDS, TICK_SECONDS * 2**troubles)
        if troubles == MAX_TROUBLES:
            failure = JobError(code="controller_error", message=f"{type(error).__name__}: {error}")
            message = f"The job failed: {failure.message}"
            with suppress(IllegalTransition, JobNotFound):
                self._jobs.transition(job_id, Status.FAILED, by="controller", message=message, error=failure)

    def _reconciler(self, record: JobRecord) -> JobReconciler:
        if record.id not in self._reconcilers:
            self._reconcilers[record.id] = JobReconciler(record, self._client, self._layout, self._pool)
        return self._reconcilers[record.id]

    def _keep_lease(self) -> None:
        if not self._lease():
            raise LostLease(self._id)

    def _lease(self) -> bool:
        return bool(call(self._client, "lease", [keys.CONTROLLER], [self._id, LEASE_SECONDS]))

    def _release(self) -> None:
        try:
            call(self._client, "lease", [keys.CONTROLLER], [self._id, 0])
        except StoreError as error:
            log.warning("lease_not_released", reason=str(error))

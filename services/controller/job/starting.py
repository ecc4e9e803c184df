"""Before a job runs: its files are validated, then it waits for its turn."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from services.controller.job.standing import Standing
from services.controller.job.waiting import Situation
from services.controller.validation import InvalidFile, validate_files
from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.store.client import Client
from services.store.job.record import JobError, JobRecord
from services.store.job.transitions import Status
from services.store.job.waits import Wait, WaitKey
from services.trajectories import streams
from services.trajectories.progress import Progress

log = structlog.get_logger()

TURN = Situation("queued", Wait(WaitKey.ANOTHER_JOB, "another job to end"))


class Starting:
    """Of one job. Validation reads whole files, so it is done beside the loop."""

    def __init__(
        self, spec: JobSpec, client: Client, layout: Layout, pool: ThreadPoolExecutor, standing: Standing
    ) -> None:
        self._spec = spec
        self._client = client
        self._layout = layout
        self._pool = pool
        self._standing = standing
        self._progress = Progress(client)
        self._validation: Future[None] | None = None

    def validate(self) -> None:
        """One look at a job whose files are being validated."""
        if self._validated():
            self._standing.move(Status.QUEUED, "Files are valid; the job is queued")

    def queue(self, record: JobRecord, may_start: bool) -> None:
        """One look at a queued job."""
        if not may_start:
            self._standing.wait(record, TURN)
            return
        # A job that never trained may have been resumed after its files were refused.
        if not self._progress.read(record.id).epoch and not self._validated():
            return
        streams.prepare(self._client, record.id)
        self._progress.set(record.id, phase="")
        self._standing.move(Status.RUNNING, "The job is running")

    def _validated(self) -> bool:
        """Whether the files were found valid; fails the job if they were not."""
        if self._validation is None:
            self._validation = self._pool.submit(validate_files, self._spec, self._layout)
        if not self._validation.done():
            return False
        error = self._validation.exception()
        if error is None:
            return True
        if isinstance(error, InvalidFile):
            self._standing.fail(JobError(code=error.code, message=str(error), param=error.param))
        else:
            log.error("validation_crashed", job=self._spec.job_id, exc_info=error)
            self._standing.fail(JobError(code="validation_error", message=f"{type(error).__name__}: {error}"))
        self._validation = None
        return False

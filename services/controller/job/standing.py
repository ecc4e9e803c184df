"""The controller's words on a job: its status, what it waits for, and that a wait has become too long."""

from __future__ import annotations

import time

import structlog

from services.controller.job.waiting import Situation
from services.job.spec import JobSpec
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.record import JobError, JobRecord, WaitingFor
from services.store.job.transitions import IllegalTransition, Status

log = structlog.get_logger()

BY = "controller"


class Standing:
    """Of one job."""

    def __init__(self, client: Client, spec: JobSpec) -> None:
        self._id = spec.job_id
        self._stall_seconds = spec.learner.stall_seconds
        self._jobs = Jobs(client)
        self._events = Events(client)
        self._told: WaitingFor | None = None

    def move(self, to: Status, message: str, **fields: object) -> None:
        """Change the status, with an event. If a person has changed it meanwhile, nothing changes."""
        try:
            self._jobs.transition(self._id, to, by=BY, message=message, **fields)
        except IllegalTransition as error:  # for example a cancel
            log.info("transition_refused", job=self._id, to=to.value, current=str(error.current))

    def fail(self, error: JobError) -> None:
        """End the job with its error."""
        self.move(Status.FAILED, f"The job failed: {error.message}", error=error)

    def clean(self, status: Status) -> None:
        """Note that nothing of an ended job runs any more."""
        self._jobs.update(self._id, cleaned_as=status)

    def wait(self, record: JobRecord, now: Situation) -> None:
        """Say what is waited for, unless the job has moved on; `since` stays while the wait is the same."""
        current, wait = record.waiting_for, now.wait
        same = current is not None and record.stage == now.stage and current.is_of(wait)
        if same and current is not None and current.what == wait.words:
            return
        since = current.since if same and current is not None else time.time()
        waiting_for = WaitingFor.of(wait, since)
        self._jobs.update(self._id, expected=record.status, stage=now.stage, waiting_for=waiting_for)

    def wait_for_machines(self, record: JobRecord, now: Situation) -> None:
        """`wait`, and an event, once, for a wait that takes longer than `stall_seconds`."""
        self.wait(record, now)
        waiting = record.waiting_for
        if waiting is None or not record.is_manned or not waiting.is_of(now.wait):
            return
        if self._told is not None and self._told.since == waiting.since and self._told.is_of(now.wait):
            return
        seconds = time.time() - waiting.since
        if seconds > self._stall_seconds:
            self._told = waiting
            text = f"Stalled in {now.stage}: waiting for {now.wait.words} since {seconds:.0f} s"
            data = {"stage": now.stage, "wait": now.wait.key, "seconds": round(seconds)}
            log.warning("job_stalled", job=self._id, what=now.wait.words, **data)
            self._events.add(self._id, text, level="warn", data=data)

"""A job that pauses, and one that has ended without success: its workers go, its groups stay or are closed."""

from __future__ import annotations

import time

from services.controller.closing import close_job
from services.controller.issuing.supply import Supply
from services.controller.job.standing import Standing
from services.controller.job.waiting import Situation
from services.controller.workers.crew import Crew
from services.disk.layout import Layout
from services.store.client import Client
from services.store.job.record import JobRecord
from services.store.job.transitions import Status
from services.store.job.waits import Wait, WaitKey

PAUSE_GRACE_SECONDS = 60.0
"""How long a pause may take beyond `rollout.drain_seconds` before the workers are ended at once."""
PAUSING = Situation("pausing", Wait(WaitKey.DRAIN, "the step to end and workers to hand back their groups"))
PAUSED = Situation("paused", Wait(WaitKey.RESUME, "a person to resume the job"))


class Stopping:
    """Of one job."""

    def __init__(self, client: Client, layout: Layout, crew: Crew, supply: Supply, standing: Standing) -> None:
        self._client = client
        self._layout = layout
        self._crew = crew
        self._supply = supply
        self._standing = standing
        self._since: float | None = None

    def pause(self, record: JobRecord) -> None:
        """One look at a job that pauses. A worker that is lost meanwhile may fail the job."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        lost = self._crew.mourn()
        if lost is not None:
            self._since = None
            self._standing.fail(lost)
            return
        self._crew.drain_all()
        if len(self._crew) and now - self._since < record.spec.rollout.drain_seconds + PAUSE_GRACE_SECONDS:
            self._standing.wait(record, PAUSING)
            return
        self._since = None
        self._crew.end()
        self._supply.end_evaluation()
        self._standing.move(Status.PAUSED, "The job is paused; its groups wait in their streams")

    def stay_paused(self, record: JobRecord) -> None:
        """One look at a paused job."""
        self._standing.wait(record, PAUSED)

    def clean_up(self, record: JobRecord) -> None:
        """A job that has ended: no actor stays; a cancelled one is closed, a failed one can resume."""
        self._since = None
        self._crew.end()
        if record.status is Status.CANCELLED:
            close_job(self._client, self._layout, record.id)
        self._supply.end_evaluation()
        self._standing.clean(record.status)

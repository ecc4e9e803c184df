"""While a job runs: workers as many as wanted, groups as many as there is room for."""

from __future__ import annotations

from services.controller.issuing.supply import Supply
from services.controller.job.standing import Standing
from services.controller.job.waiting import situation_of
from services.controller.workers.crew import Crew
from services.store.client import Client
from services.store.job.record import JobRecord
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress, ProgressRecord


class Running:
    """Of one job."""

    def __init__(self, client: Client, crew: Crew, supply: Supply, standing: Standing) -> None:
        self._crew = crew
        self._supply = supply
        self._standing = standing
        self._progress = Progress(client)
        self._ledger = Ledger(client)

    def look(self, record: JobRecord, progress: ProgressRecord) -> None:
        """One look at a job that trains."""
        self._crew.keep("learner", 1)
        self._crew.keep("rollout", record.rollout_workers)
        self._crew.keep("reward", record.reward_workers)
        ledger = self._ledger.snapshot(record.id)
        capacity = None
        if self._progress.asserted(progress) and self._supply.is_ready:
            capacity = self._supply.issue(progress, ledger)
            self._supply.evaluate(progress, is_manned=record.is_manned)
        now = situation_of(record, progress, self._crew.workers(), ledger, capacity)
        self._standing.wait_for_machines(record, now)

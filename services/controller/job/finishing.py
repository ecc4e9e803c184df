"""The learner is done: the last evaluation ends, then the workers, then the job."""

from __future__ import annotations

from services.controller.closing import close_job
from services.controller.issuing.supply import Supply
from services.controller.job.standing import Standing
from services.controller.job.waiting import Situation
from services.controller.results import register_results
from services.controller.workers.crew import Crew
from services.disk.layout import Layout
from services.store.client import Client
from services.store.job.record import JobRecord
from services.store.job.transitions import Status
from services.store.job.waits import Wait, WaitKey
from services.trajectories.progress import ProgressRecord

EVALUATING = Situation("evaluating", Wait(WaitKey.EVALUATION, "the last evaluation to end"))


class Finishing:
    """Of one job."""

    def __init__(self, client: Client, layout: Layout, crew: Crew, supply: Supply, standing: Standing) -> None:
        self._client = client
        self._layout = layout
        self._crew = crew
        self._supply = supply
        self._standing = standing

    def look(self, record: JobRecord, progress: ProgressRecord) -> None:
        """One look at a job whose learner is done."""
        if record.spec.evaluation is not None:
            if not self._supply.is_ready:
                return
            if self._supply.evaluate(progress, is_manned=record.is_manned):
                self._crew.keep("rollout", record.rollout_workers)
                self._crew.keep("reward", record.reward_workers)
                self._standing.wait_for_machines(record, EVALUATING)
                return
        self._crew.end()
        close_job(self._client, self._layout, record.id)
        results = register_results(self._client, self._layout, record)
        self._standing.move(
            Status.SUCCEEDED,
            f"The job succeeded; the model is registered as {results.model}",
            fine_tuned_model=results.model,
            result_files=results.files,
            trained_tokens=progress.trained_tokens,
            cleaned_as=Status.SUCCEEDED,
        )

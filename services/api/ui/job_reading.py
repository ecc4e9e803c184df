"""Reads from the store, in one go, everything that a page shows of a job. All of it blocks and runs in threads.

`JobReading` keeps what it has read of a job's steps and asks for new ones only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.api.dependencies import Service
from services.api.jobs.explanation import LOOK_BACK_STEPS, surroundings
from services.api.ui.series import Series
from services.disk.files import whole_lines
from services.drift.explain import WINDOW_STEPS, explain
from services.drift.findings import Finding
from services.records.outcomes import CheckpointRecord, EvaluationRecord
from services.records.samples import GateCurve
from services.records.step import StepRecord
from services.records.worker import WorkerRecord
from services.store.job.events import Event
from services.store.job.record import JobRecord
from services.store.job.samples import gate_of
from services.store.job.transitions import ENDED, Status
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.progress import ProgressRecord
from services.trajectories.stream_stats import StreamStats, stream_stats
from services.trajectories.tallies import TallyRecord

SHOWN_EVENTS = 100
SHOWN_JOBS = 50
SHOWN_SAMPLES = 24
FAST_SECONDS, SLOW_SECONDS = 2.0, 10.0
"""Between two looks: at something that runs, and at something that has ended."""


@dataclass(frozen=True)
class JobLook:
    """One job at one moment."""

    record: JobRecord
    progress: ProgressRecord
    ledger: LedgerSnapshot
    streams: dict[str, StreamStats]
    tallies: TallyRecord
    workers: Sequence[WorkerRecord]
    evaluations: Sequence[EvaluationRecord]
    checkpoints: Sequence[CheckpointRecord]
    events: Sequence[Event]
    """Newest first."""
    latest: StepRecord | None
    gate: GateCurve | None
    series: Series
    findings: Sequence[Finding]
    """What the figures say, the gravest first."""

    @property
    def ended(self) -> bool:
        return self.record.status in ENDED

    @property
    def pause_seconds(self) -> float:
        """Until it is worth looking again."""
        return SLOW_SECONDS if self.ended else FAST_SECONDS


class JobReading:
    """Reads one job again and again; one thread at a time."""

    def __init__(self, service: Service, job_id: str) -> None:
        self._service = service
        self._job_id = job_id
        self._gate: GateCurve | None = None
        self._series = Series()
        self._recent: list[StepRecord] = []

    def look(self) -> JobLook:
        """The job as it is now. Raises JobNotFound and StoreError."""
        service, job_id = self._service, self._job_id
        record = service.jobs.get(job_id)
        events, _ = service.events.list(job_id, limit=SHOWN_EVENTS)
        if self._gate is None:
            self._gate = gate_of(service.settings.layout.job(job_id))
        latest = service.steps.latest(job_id)
        self._catch_up(latest)
        return JobLook(
            record=record,
            progress=service.progress.read(job_id),
            ledger=service.ledger.snapshot(job_id),
            streams=stream_stats(service.client, job_id),
            tallies=service.tallies.read(job_id),
            workers=service.registry.list(job_id),
            evaluations=service.evaluations.list(job_id),
            checkpoints=service.checkpoints.list(job_id),
            events=events,
            latest=latest,
            gate=self._gate,
            series=self._series,
            findings=explain(record.spec, self._explained(), surroundings(service, record)),
        )

    def _explained(self) -> list[StepRecord]:
        """The newest records, whole; of those before them the reward, which is all that is looked at."""
        before = slice(-len(self._recent) or None)
        steps = self._series.steps(LOOK_BACK_STEPS)[before].tolist()
        rewards = self._series.column("reward", LOOK_BACK_STEPS)[before].tolist()
        older = (
            StepRecord(step=step, reward_mean=None if math.isnan(reward) else reward)
            for step, reward in zip(steps, rewards, strict=True)
        )
        return [*older, *self._recent]

    def _catch_up(self, latest: StepRecord | None) -> None:
        """Read the steps that are new or were trained again."""
        if latest is None or self._is_known(latest):
            return
        records = self._news() if self._series else []
        if not any(self._is_known(record) for record in records):  # all is new, or was trained again
            self._series = self._archived()
            self._recent = []
            records = self._news()
        series = self._series.copy()
        series.cut(latest.step + 1)
        for record in records:
            series.add(record)
        self._series = series
        first = records[0].step if records else 0
        self._recent = [*(kept for kept in self._recent if kept.step < first), *records][-WINDOW_STEPS:]

    def _news(self) -> list[StepRecord]:
        """The records from a few steps before the last that is known."""
        return self._service.steps.since(self._job_id, max(0, self._series.last_step - WINDOW_STEPS + 1))

    def _is_known(self, record: StepRecord) -> bool:
        return (record.step, record.time) == (self._series.last_step, self._series.last_time)

    def _archived(self) -> Series:
        """The records on disk one at a time, because all records of a long job take much memory."""
        series = Series()
        for line in whole_lines(self._service.settings.layout.job(self._job_id).steps):
            series.add(StepRecord.from_json(line))
        return series


@dataclass(frozen=True)
class JobRow:
    """A line of the list of jobs."""

    record: JobRecord
    step: int
    reward: float | None
    ess: float | None
    workers: dict[str, int]
    """Ready workers by kind."""


@dataclass(frozen=True)
class JobsLook:
    """The newest jobs, newest first, and how many there are by status."""

    rows: Sequence[JobRow]
    counts: dict[Status, int]

    @property
    def pause_seconds(self) -> float:
        return FAST_SECONDS


class JobsReading:
    """Reads the list; rows of jobs that have ended are remembered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended: dict[str, JobRow] = {}

    def look(self) -> JobsLook:
        """The list as it is now. Raises StoreError."""
        statuses = self._service.jobs.statuses()
        counts = dict.fromkeys(Status, 0)
        for status in statuses.values():
            counts[status] += 1
        shown = list(statuses)[::-1][:SHOWN_JOBS]
        rows = [row for job_id in shown if (row := self._row(job_id, statuses[job_id])) is not None]
        self._ended = {row.record.id: row for row in rows if row.record.status in ENDED}
        return JobsLook(rows, counts)

    def _row(self, job_id: str, status: Status) -> JobRow | None:
        """None for a job whose record can't be read."""
        known = self._ended.get(job_id)
        if known is not None and known.record.status == status:
            return known
        record = next(self._service.jobs.readable([job_id]), None)
        if record is None:
            return None
        latest = self._service.steps.latest(job_id)
        workers: dict[str, int] = {}
        for worker in self._service.registry.list(job_id):
            workers[worker.kind] = workers.get(worker.kind, 0) + worker.up
        return JobRow(
            record=record,
            step=self._service.progress.read(job_id).next_step,
            reward=latest.reward_mean if latest else None,
            ess=latest.drift.ess_sequence if latest else None,
            workers=workers,
        )

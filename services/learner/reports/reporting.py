"""Writes what readers see of a learner: step records, events, checkpoint records, wishes for evaluations."""

from __future__ import annotations

import time
from bisect import bisect_left
from pathlib import Path

import structlog

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.journal.record import Header
from services.learner.recovery.checkpoint import step_of
from services.learner.reports.sinks import Sinks
from services.observability.meters import METERS
from services.observability.metrics import MAX_STALENESS_LABEL, STALENESS_BUCKETS
from services.records.outcomes import CheckpointRecord
from services.records.record import numbers
from services.records.step import StepRecord
from services.store.client import Client, StoreError
from services.store.job.events import Events
from services.store.job.steps import Checkpoints, Evaluations, Steps
from services.trajectories.outcomes import DropReason
from services.trajectories.progress import Progress
from services.trajectories.tallies import Tallies

log = structlog.get_logger()


class Reporter:
    """The readers' view of one job."""

    def __init__(self, spec: JobSpec, client: Client, layout: Layout) -> None:
        self._spec = spec
        self._client = client
        self._progress = Progress(client)
        self._steps = Steps(client, layout)
        self._events = Events(client)
        self._checkpoints = Checkpoints(client)
        self._sinks = Sinks(spec, layout.job(spec.job_id), self._warn)

    def step(self, record: StepRecord, *, tokens: int) -> None:
        """Report a step that was trained; `tokens`: all tokens that the job has trained so far."""
        self._steps.put(self._spec.job_id, record)
        self._sinks.put(record)
        if not record.replayed:
            self._progress.set(self._spec.job_id, trained_tokens=tokens)
        evaluation = self._spec.evaluation
        done = record.step + 1
        if evaluation is not None and (done % evaluation.every == 0 or done == self._spec.learner.steps):
            self._progress.set(self._spec.job_id, evaluation_step=done)
        if not record.replayed:
            _meter(record)
            self._events.add(
                self._spec.job_id,
                f"Step {done}/{self._spec.learner.steps}: reward {record.reward_mean:.3f}",
                type="metrics",
                data={"step": done, "train_mean_reward": record.reward_mean, "loss": record.loss},
            )

    def said_of(self, step: int) -> StepRecord | None:
        """The record of a step; None where there is none."""
        return next((record for record in self._steps.since(self._spec.job_id, step) if record.step == step), None)

    def checkpoint(self, path: Path) -> None:
        """Report a durable checkpoint, and remove the records of checkpoints that are gone."""
        step = step_of(path)
        before = self.said_of(step - 1)
        record = CheckpointRecord(
            step=step,
            path=str(path),
            created_at=int(time.time()),
            train_mean_reward=before.reward_mean if before else None,
        )
        self._checkpoints.put(self._spec.job_id, record)
        for known in self._checkpoints.list(self._spec.job_id):
            if not Path(known.path).exists():
                self._checkpoints.remove(self._spec.job_id, known.step)

    def went_back(self, header: Header) -> None:
        """Report that training went back."""
        if header.kind == "skip":
            text = (
                f"The batch of step {header.step} ended {len(header.causes)} learners ({', '.join(header.causes)}): "
                f"its {len(header.dropped['poison'])} groups are dropped as poison"
            )
        else:
            undone = sum(len(numbers) for numbers in header.dropped.values())
            text = f"Training was rolled back to step {header.step}; {undone} groups are dropped as rolled_back"
        self._events.add(self._spec.job_id, text, level="warn")
        evaluation = self._spec.evaluation
        if evaluation is not None:
            Evaluations(self._client).forget_after(self._spec.job_id, header.step)
            self._progress.set(
                self._spec.job_id,
                evaluation_step=header.step - header.step % evaluation.every,
                evaluation_cut=header.sequence + 1,
            )
        undone_tokens = sum(record.tokens or 0 for record in self._steps.since(self._spec.job_id, header.step))
        if undone_tokens:
            Tallies(self._client).waste(self._spec.job_id, DropReason.ROLLED_BACK, undone_tokens)

    def close(self) -> None:
        """Wait a while for the sinks to write what they have."""
        self._sinks.close()

    def _warn(self, text: str) -> None:
        try:
            self._events.add(self._spec.job_id, text, level="warn")
        except StoreError as error:  # a sink's thread: whether the store is there is for the learner to find out
            log.warning("warning_not_stored", text=text, reason=str(error))

    def replay_differs(self, header: Header, fields: list[str]) -> None:
        """Report that a replay of a step did not give the recorded bits."""
        text = f"The replay of step {header.step} differs from what was recorded: {', '.join(fields)}"
        self._events.add(self._spec.job_id, text, level="warn")


def _meter(record: StepRecord) -> None:
    """The step on this process's own page of metrics: what is summed over steps and survives between two scrapes."""
    for staleness, ratios in record.drift.by_staleness.items():
        at = str(min(staleness, MAX_STALENESS_LABEL))
        METERS.add_bins("sspo_is_ratio", ratios.ratio_histogram, ratios.ratio_sum, staleness=at)
        sequences = ratios.sequence_ratio_histogram
        METERS.add_bins("sspo_seq_is_ratio", sequences, ratios.sequence_ratio_sum, staleness=at)
        METERS.add_bins("sspo_staleness_steps", *_at_one_value(staleness, sum(sequences)))
    METERS.observe("sspo_learner_step_duration_seconds", record.seconds or 0.0)
    for cause, seconds in numbers(record.waits):
        METERS.count("sspo_learner_wait_seconds_total", max(0.0, seconds or 0.0), cause=cause)


def _at_one_value(value: int, count: float) -> tuple[list[float], float]:
    """`count` observations of one staleness, as bins."""
    bins = [0.0] * (len(STALENESS_BUCKETS) + 1)
    bins[bisect_left(STALENESS_BUCKETS, value)] = count
    return bins, value * count

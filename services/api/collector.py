"""Job-level figures for Prometheus, read from Redis when Prometheus asks.

Invariant: every sample's name, labels and kind come from `services.observability.metrics`. Jobs that ended long ago
have no series. When Redis does not answer, the scrape says so instead of showing old figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

import structlog
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.api.dependencies import Service
from services.api.jobs.explanation import explained
from services.observability.metrics import (
    MAX_STALENESS_LABEL,
    MAX_UPDATE_LABEL,
    METRICS,
    RATIO_BUCKETS,
    Metric,
)
from services.records.step import StepRecord
from services.records.worker import WORKER_KINDS, WORKER_STATES
from services.store.client import StoreError
from services.store.job.record import JobRecord
from services.store.job.transitions import ENDED, Status
from services.trajectories.entries import EVAL_PROMPTS, EVAL_TRAJECTORIES, PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.outcomes import DropReason
from services.trajectories.stream_stats import steps_in_flight, stream_stats

log = structlog.get_logger()

VERSION = version("sspo")
SHOWN_AFTER_END_SECONDS = 900.0
HANDED_ON = (PROMPTS, TRAJECTORIES, EVAL_PROMPTS, EVAL_TRAJECTORIES)
"""Streams whose entries workers hold under a lease."""
AGEING = {
    "sspo_staleness_in_flight_steps_max": (PROMPTS, TRAJECTORIES),
    "sspo_staleness_queued_steps_max": (SCORED,),
}
BY_NAME = {metric.name: metric for metric in METRICS}
EDGES = (*(f"{edge:g}" for edge in RATIO_BUCKETS), "+Inf")

Sample = tuple[str, tuple[str, ...], float]
Family = GaugeMetricFamily | CounterMetricFamily


def registry_for(service: Service) -> tuple[CollectorRegistry, Histogram]:
    """A registry of its own for one app, and the histogram of its requests."""
    registry = CollectorRegistry()
    metric = BY_NAME["http_request_duration_seconds"]
    duration = Histogram(metric.name, metric.help, metric.labels, registry=registry)
    registry.register(JobCollector(service))
    return registry, duration


class JobCollector(Collector):
    """Reads the store at each scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Family]:
        """Nothing in advance, so that registering does not read the store."""
        return []

    def collect(self) -> Iterator[Family]:
        """The families of this moment."""
        try:
            samples = [*self._samples(), ("sspo_store_up", (), 1.0)]
        except StoreError as error:
            log.warning("scrape_failed", reason=str(error))
            samples = [("sspo_store_up", (), 0.0)]
        samples.append(("sspo_build_info", (VERSION,), 1.0))
        families: dict[str, Family] = {}
        for name, labels, value in samples:
            families.setdefault(name, _family(BY_NAME[name])).add_metric(labels, value)
        yield from families.values()

    def _samples(self) -> Iterator[Sample]:
        statuses = self._service.jobs.statuses()
        counts = Counter(statuses.values())
        for status in Status:
            yield "sspo_jobs", (status.value,), counts[status]
        now = time.time()
        for job_id, status in statuses.items():
            try:
                record = self._service.jobs.get(job_id)
                if status in ENDED and now - (record.finished_at or 0) > SHOWN_AFTER_END_SECONDS:
                    continue
                samples = list(self._job(record, now))
            except StoreError:
                raise
            except Exception:  # one job's boundary: the others' figures, and what alerts on them, stay
                log.exception("job_not_scraped", job=job_id)
                continue
            for name, labels, value in samples:
                yield name, (job_id, *labels), value

    def _job(self, record: JobRecord, now: float) -> Iterator[Sample]:
        progress = self._service.progress.read(record.id)
        yield "sspo_learner_step", (), progress.next_step
        yield "sspo_learner_steps_wanted", (), record.spec.learner.steps
        yield "sspo_policy_version", (), progress.policy_version
        undone = self._service.tallies.read(record.id).wasted_tokens.get(DropReason.ROLLED_BACK, 0)
        yield "sspo_learner_tokens_total", (), progress.trained_tokens + undone
        yield "sspo_job_waiting_seconds", (), now - record.waiting_for.since if record.waiting_for else 0.0
        yield from self._ledger(record.id)
        yield from self._queues(record.id)
        yield from self._staleness(record.id, progress.next_step)
        yield from self._tallies(record.id)
        yield from self._workers(record)
        for finding in explained(self._service, record):
            if finding.severity != "info":
                yield "sspo_finding", (finding.name,), 1.0
        checkpoints = self._service.checkpoints.list(record.id)
        if checkpoints:
            yield "sspo_checkpoint_step", (), checkpoints[-1].step
        latest = self._service.steps.latest(record.id)
        if latest is not None:
            yield from _step_samples(latest)

    def _ledger(self, job_id: str) -> Iterator[Sample]:
        ledger = self._service.ledger.snapshot(job_id)
        yield "sspo_groups_issued_total", (), ledger.issued
        yield "sspo_groups_trained_total", (), ledger.trained + ledger.dropped.get(DropReason.ROLLED_BACK, 0)
        for reason, count in ledger.dropped.items():
            yield "sspo_groups_dropped_total", (reason,), count
        yield "sspo_groups_in_flight", (), ledger.in_flight
        yield "sspo_groups_missing", (), len(ledger.missing)

    def _queues(self, job_id: str) -> Iterator[Sample]:
        for queue, stats in stream_stats(self._service.client, job_id).items():
            yield "sspo_queue_entries", (queue,), stats.entries
            yield "sspo_queue_bytes", (queue,), stats.bytes
            yield "sspo_queue_oldest_seconds", (queue,), stats.oldest_seconds
            yield "sspo_queue_pending_entries", (queue,), stats.pending

    def _staleness(self, job_id: str, step: int) -> Iterator[Sample]:
        """Of the oldest group on its way and in front of the learner; none where nothing is."""
        for name, queues in AGEING.items():
            steps = [at for queue in queues for _, at in steps_in_flight(self._service.client, job_id, queue)]
            yield name, (), max(0, step - min(steps, default=step))

    def _tallies(self, job_id: str) -> Iterator[Sample]:
        tallies = self._service.tallies.read(job_id)
        for reason, tokens in tallies.wasted_tokens.items():
            yield "sspo_tokens_wasted_total", (reason,), tokens
        for reason, letters in tallies.dead_letters.items():
            yield "sspo_dead_letter_total", (reason,), letters
        yield "sspo_dead_letters_forgotten_total", (), tallies.forgotten_letters
        for queue in HANDED_ON:
            yield "sspo_queue_redelivered_total", (queue,), tallies.redelivered.get(queue, 0)
        for kind in WORKER_KINDS:
            yield "sspo_worker_restarts_total", (kind,), tallies.restarts.get(kind, 0)
        yield "sspo_canary_failures_total", (), tallies.canary_failures

    def _workers(self, record: JobRecord) -> Iterator[Sample]:
        workers = self._service.registry.list(record.id)
        for kind in WORKER_KINDS:
            counts = Counter(worker.state for worker in workers if worker.kind == kind)
            for state in WORKER_STATES:
                yield f"sspo_{kind}_workers", (state,), counts[state]
        yield "sspo_rollout_workers", ("desired",), record.rollout_workers
        yield "sspo_reward_workers", ("desired",), record.reward_workers
        versions = [worker.policy_version for worker in workers if worker.kind == "rollout" and worker.up]
        if versions:
            yield "sspo_worker_policy_version_min", (), min(versions)


def _step_samples(record: StepRecord) -> Iterator[Sample]:
    """Samples of the figures that the table reads of a step; none for a figure that the step lacks."""
    for metric in METRICS:
        if metric.figure is None:
            continue
        value = metric.figure(record)
        if isinstance(value, Mapping):
            for bucket, figures in value.items():
                staleness, update = bucket.split("/")
                shown = int(staleness) <= MAX_STALENESS_LABEL and int(update) <= MAX_UPDATE_LABEL
                if shown and figures.kl_k3 is not None:
                    yield metric.name, (staleness, update), figures.kl_k3
        elif isinstance(value, Sequence):
            for edge, count in zip(EDGES, value, strict=False):
                yield metric.name, (edge,), count
        elif value is not None:
            yield metric.name, (), value


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)

"""A job's explanation: the rules of `services.drift.explain` over what the store says now."""

from __future__ import annotations

import time

from services.api.dependencies import Service
from services.drift.explain import explain
from services.drift.findings import Finding, Surroundings
from services.store.job.record import JobRecord

LOOK_BACK_STEPS = 64
"""Steps in which the best reward is looked for."""


def explanation(service: Service, job_id: str) -> list[Finding]:
    """Findings, the gravest first. Raises JobNotFound."""
    return explained(service, service.jobs.get(job_id))


def explained(service: Service, record: JobRecord) -> list[Finding]:
    """The same of a record that was read already."""
    records = service.steps.newest(record.id, LOOK_BACK_STEPS)
    return explain(record.spec, records, surroundings(service, record))


def surroundings(service: Service, record: JobRecord) -> Surroundings:
    """Queues, workers and counts of a job."""
    ledger = service.ledger.snapshot(record.id)
    progress = service.progress.read(record.id)
    tallies = service.tallies.read(record.id)
    waiting = record.waiting_for
    return Surroundings(
        status=record.status.value,
        waits_for=waiting.what if waiting else "",
        waited_seconds=time.time() - waiting.since if waiting else 0.0,
        policy_version=progress.policy_version,
        in_streams=ledger.in_streams,
        issued=ledger.issued,
        dropped=ledger.dropped,
        trained_tokens=progress.trained_tokens,
        wasted_tokens=tallies.wasted_tokens,
        dead_letters=tallies.dead_letters,
        canary_failures=tallies.canary_failures,
        canary_quiet_seconds=time.time() - tallies.canary_failed_at,
        workers=service.registry.list(record.id),
    )

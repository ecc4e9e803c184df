"""/v1/x: what the OpenAI API has no word for."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from services.api.bodies import JsonBody, parse
from services.api.dependencies import Service, Svc
from services.api.jobs.explanation import explanation
from services.api.schemas.extensions import Scale
from services.api.schemas.job_file import JsonObject, job_schema
from services.api.views import event_view, ledger_view, page, streams_view, worker_view
from services.records.record import numbers
from services.records.step import StepRecord
from services.records.worker import ScaledKind
from services.store.job.looks import gate_of, samples_of
from services.store.job.transitions import ENDED
from services.trajectories.stream_stats import stream_stats

BY = "api"
POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0

router = APIRouter(prefix="/v1/x", tags=["extensions"])


@router.get("/jobs/{job_id}")
def show_job(service: Svc, job_id: str) -> dict[str, Any]:
    """Where a job is, and what it waits for. The unit of the ledger is the group."""
    record = service.jobs.get(job_id)
    progress = service.progress.read(job_id)
    latest = service.steps.latest(job_id)
    return {
        "id": job_id,
        "object": "x.job",
        "status": record.status.value,
        "created_at": record.created_at,
        "finished_at": record.finished_at,
        "stage": record.stage,
        "waiting_for": record.waiting_for.model_dump() if record.waiting_for else None,
        "error": record.error.model_dump() if record.error else None,
        "step": progress.next_step,
        "policy_version": progress.policy_version,
        "phase": progress.phase,
        "ledger": ledger_view(service.ledger.snapshot(job_id)),
        "streams": streams_view(stream_stats(service.client, job_id)),
        "wasted_tokens": service.tallies.read(job_id).wasted_tokens,
        "desired": {"rollout_workers": record.rollout_workers, "reward_workers": record.reward_workers},
        "workers": [worker_view(worker) for worker in service.registry.list(job_id)],
        "drift": latest.plain().get("drift") if latest else None,
        "spec": record.spec.model_dump(),
    }


@router.put("/jobs/{job_id}/rollout_workers")
def scale_rollout(service: Svc, job_id: str, body: JsonBody) -> dict[str, Any]:
    """Set the desired number of rollout workers; the last write wins."""
    return _scale(service, job_id, "rollout", body)


@router.put("/jobs/{job_id}/reward_workers")
def scale_reward(service: Svc, job_id: str, body: JsonBody) -> dict[str, Any]:
    """Set the desired number of reward workers; the last write wins."""
    return _scale(service, job_id, "reward", body)


def _scale(service: Service, job_id: str, kind: ScaledKind, body: dict[str, Any]) -> dict[str, Any]:
    wanted = parse(Scale, body)
    scaled = service.operations.scale(job_id, kind, wanted.replicas, by=BY, operation_id=wanted.operation_id)
    return {
        "object": "x.scale",
        "job_id": job_id,
        "kind": kind,
        "replicas": scaled.replicas,
        "previous": scaled.previous,
        "applied": scaled.applied,
        "operation_id": wanted.operation_id,
    }


@router.get("/jobs/{job_id}/metrics")
def job_metrics(
    service: Svc,
    job_id: str,
    name: Annotated[list[str] | None, Query()] = None,
    since: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict[str, Any]:
    """Figures of `limit` steps from `since` on, ascending; `name` is a dotted path and may be repeated; without it all.

    When there are more, the next page begins after the last step of this one.
    """
    service.jobs.get(job_id)
    records = itertools.islice(service.steps.each(job_id, since), limit + 1)
    series = [{"step": record.step, "values": _select(record, name)} for record in records]
    return {"object": "list", "data": series[:limit], "has_more": len(series) > limit}


@router.get("/jobs/{job_id}/explain")
def explain_job(service: Svc, job_id: str) -> dict[str, Any]:
    """What the figures mean now, in words, the gravest first."""
    return {"object": "x.explanation", "data": [dataclasses.asdict(one) for one in explanation(service, job_id)]}


@router.get("/jobs/{job_id}/evaluations")
def job_evaluations(service: Svc, job_id: str) -> dict[str, Any]:
    """Outcomes of the evaluations on the validation file, ascending."""
    service.jobs.get(job_id)
    return {"object": "list", "data": [one.plain() for one in service.evaluations.list(job_id)], "has_more": False}


def _select(record: StepRecord, names: list[str] | None) -> dict[str, float | None]:
    figures = dict(numbers(record))
    return figures if names is None else {name: figures[name] for name in names if name in figures}


@router.get("/jobs/{job_id}/events/stream")
def stream_events(
    service: Svc, job_id: str, last_event_id: Annotated[str, Header()] = "", after: str = ""
) -> StreamingResponse:
    """Server-sent events: all events after `Last-Event-ID` (or `after`), then each new one until the job has ended."""
    service.jobs.get(job_id)
    position = last_event_id or after
    service.events.follow(job_id, position)  # an unknown id is a 400 now rather than a broken stream
    return StreamingResponse(_follow(service, job_id, position), media_type="text/event-stream")


async def _follow(service: Service, job_id: str, position: str) -> AsyncIterator[str]:
    heard = time.monotonic()
    while True:
        # Status first: an event written before the job ended is then in the batch that follows.
        ended = (await asyncio.to_thread(service.jobs.get, job_id)).status in ENDED
        events = await asyncio.to_thread(service.events.follow, job_id, position)
        for event in events:
            position = event.id
            yield f"id: {event.id}\nevent: {event.type}\ndata: {json.dumps(event_view(event))}\n\n"
        if events:
            heard = time.monotonic()
            continue
        if ended:
            yield "event: end\ndata: {}\n\n"
            return
        if time.monotonic() - heard > KEEP_ALIVE_SECONDS:
            heard = time.monotonic()
            yield ": keep-alive\n\n"
        await asyncio.sleep(POLL_SECONDS)


@router.get("/metrics/targets")
def metrics_targets(service: Svc) -> list[dict[str, Any]]:
    """Prometheus HTTP service discovery: the pages of the workers of jobs that have not ended, and of Ray's nodes."""
    targets = [_target(address, kind="ray", node=node) for address, node in service.nodes.list().items()]
    for job_id, status in service.jobs.statuses().items():
        if status in ENDED:
            continue
        for worker in service.registry.list(job_id):
            address = worker.detail.metrics_address
            if address:
                labels = {"job_id": job_id, "kind": worker.kind, "worker": worker.id, "node": worker.node}
                targets.append(_target(address, **labels))
    return targets


def _target(address: str, **labels: str) -> dict[str, Any]:
    return {"targets": [str(address)], "labels": labels}


@router.get("/jobs/{job_id}/gate")
def job_gate(service: Svc, job_id: str) -> dict[str, Any]:
    """The curve of the job's gate: a token's weight over its log ratio; null before a learner wrote it."""
    service.jobs.get(job_id)
    gate = gate_of(service.settings.layout.job(job_id))
    return {"object": "x.gate", "gate": gate.plain() if gate else None}


@router.get("/jobs/{job_id}/samples")
def job_samples(
    service: Svc, job_id: str, since: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=64)] = 16
) -> dict[str, Any]:
    """Groups to look at, trained at step `since` or later, the newest `limit`, ascending."""
    service.jobs.get(job_id)
    kept = samples_of(service.settings.layout.job(job_id), limit + 1)
    found = [sample.plain() for sample in kept if sample.step >= since]
    return {"object": "list", "data": found[-limit:], "has_more": len(found) > limit}


@router.get("/schema/job")
def show_job_schema() -> JsonObject:
    """The JSON schema of a job file, for editors and for whoever checks one."""
    return job_schema()


@router.get("/models")
def list_models(service: Svc) -> dict[str, Any]:
    """Registered models: what a job's `model` may name."""
    names = service.settings.layout.model_names()
    return page([{"id": name, "object": "model", "owned_by": "sspo"} for name in names], has_more=False)

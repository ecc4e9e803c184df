"""/v1/x: what the OpenAI API has no word for."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse

from services.api.bodies import Accepted, JsonBody, JsonRoute
from services.api.dependencies import Service, Svc
from services.api.jobs.explanation import explanation
from services.api.parameters import JobId
from services.api.schemas.base import Listing, Page
from services.api.schemas.errors import documented, no_json
from services.api.schemas.extensions import (
    Explanation,
    FindingView,
    GateAnswer,
    MetricPoint,
    ModelAnswer,
    Scale,
    ScaleAnswer,
    TargetGroup,
)
from services.api.schemas.job_file import JsonObject, job_schema
from services.api.schemas.job_view import Desired, JobView, LedgerView, Waiting, WorkerView, streams_of
from services.api.schemas.jobs import EventAnswer, JobFailure
from services.api.schemas.said import Said
from services.records.outcomes import EvaluationRecord
from services.records.record import numbers
from services.records.samples import SampledGroup
from services.records.step import StepRecord
from services.records.worker import ScaledKind
from services.store.job.looks import gate_of, samples_of
from services.store.job.transitions import ENDED
from services.trajectories.stream_stats import stream_stats

BY = "api"
POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0

router = APIRouter(prefix="/v1/x", tags=["extensions"], route_class=JsonRoute, responses=documented(401, 503))
OF_A_JOB = documented(404, 409)
ScaleBody = Annotated[Accepted[Scale], Depends(JsonBody(Scale))]


@router.get("/jobs/{job_id}", responses=OF_A_JOB)
def show_job(service: Svc, job_id: JobId) -> JobView:
    """Where a job is, and what it waits for. The unit of the ledger is the group."""
    record = service.jobs.get(job_id)
    progress = service.progress.read(job_id)
    latest = service.steps.latest(job_id)
    return JobView(
        id=job_id,
        status=record.status,
        created_at=record.created_at,
        finished_at=record.finished_at,
        stage=record.stage,
        waiting_for=Waiting.of(record.waiting_for),
        error=JobFailure.of(record.error),
        step=progress.next_step,
        policy_version=progress.policy_version,
        phase=progress.phase,
        ledger=LedgerView.of(service.ledger.snapshot(job_id)),
        streams=streams_of(stream_stats(service.client, job_id)),
        wasted_tokens=service.tallies.read(job_id).wasted_tokens,
        desired=Desired(rollout_workers=record.rollout_workers, reward_workers=record.reward_workers),
        workers=[WorkerView.of(worker) for worker in service.registry.list(job_id)],
        drift=latest.drift if latest else None,
        spec=record.spec,
    )


@router.put("/jobs/{job_id}/rollout_workers", responses=OF_A_JOB | documented(400, 413))
def scale_rollout(service: Svc, job_id: JobId, body: ScaleBody) -> ScaleAnswer:
    """Set the desired number of rollout workers; the last write wins."""
    return _scale(service, job_id, "rollout", body.value)


@router.put("/jobs/{job_id}/reward_workers", responses=OF_A_JOB | documented(400, 413))
def scale_reward(service: Svc, job_id: JobId, body: ScaleBody) -> ScaleAnswer:
    """Set the desired number of reward workers; the last write wins."""
    return _scale(service, job_id, "reward", body.value)


def _scale(service: Service, job_id: str, kind: ScaledKind, wanted: Scale) -> ScaleAnswer:
    scaled = service.operations.scale(job_id, kind, wanted.replicas, by=BY, operation_id=wanted.operation_id)
    return ScaleAnswer(
        job_id=job_id,
        kind=kind,
        replicas=scaled.replicas,
        previous=scaled.previous,
        applied=scaled.applied,
        operation_id=wanted.operation_id,
    )


@router.get("/jobs/{job_id}/metrics", responses=OF_A_JOB | documented(400))
def job_metrics(
    service: Svc,
    job_id: JobId,
    name: Annotated[list[str] | None, Query(description="A figure, as a dotted path. Left out: all.")] = None,
    since: Annotated[int, Query(ge=0, description="First step.")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Steps at most.")] = 1000,
) -> Listing[MetricPoint]:
    """Figures of `limit` steps from `since` on, ascending; `name` is a dotted path and may be repeated; without it all.

    When there are more, the next page begins after the last step of this one.
    """
    service.jobs.get(job_id)
    records = itertools.islice(service.steps.each(job_id, since), limit + 1)
    # Unchecked: these are numbers already, and a long job has millions of them.
    points = [MetricPoint.model_construct(step=record.step, values=_select(record, name)) for record in records]
    return Listing(data=points[:limit], has_more=len(points) > limit)


@router.get("/jobs/{job_id}/explain", responses=OF_A_JOB)
def explain_job(service: Svc, job_id: JobId) -> Explanation:
    """What the figures mean now, in words, the gravest first."""
    return Explanation(data=[FindingView.of(finding) for finding in explanation(service, job_id)])


@router.get("/jobs/{job_id}/evaluations", responses=OF_A_JOB)
def job_evaluations(service: Svc, job_id: JobId) -> Listing[Said[EvaluationRecord]]:
    """Outcomes of the evaluations on the validation file, ascending."""
    service.jobs.get(job_id)
    return Listing(data=service.evaluations.list(job_id), has_more=False)


def _select(record: StepRecord, names: list[str] | None) -> dict[str, float | None]:
    figures = dict(numbers(record))
    return figures if names is None else {name: figures[name] for name in names if name in figures}


@router.get(
    "/jobs/{job_id}/events/stream",
    response_class=StreamingResponse,
    responses=no_json("text/event-stream") | OF_A_JOB | documented(400),
)
def stream_events(
    service: Svc,
    job_id: JobId,
    last_event_id: Annotated[str, Header(description="Id of the last event that was heard.")] = "",
    after: Annotated[str, Query(description="The same, for clients that can't set headers.")] = "",
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
            yield f"id: {event.id}\nevent: {event.type}\ndata: {EventAnswer.of(event).model_dump_json()}\n\n"
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
def metrics_targets(service: Svc) -> list[TargetGroup]:
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


def _target(address: str, **labels: str) -> TargetGroup:
    return TargetGroup(targets=[address], labels=labels)


@router.get("/jobs/{job_id}/gate", responses=OF_A_JOB)
def job_gate(service: Svc, job_id: JobId) -> GateAnswer:
    """The curve of the job's gate: a token's weight over its log ratio; null before a learner wrote it."""
    service.jobs.get(job_id)
    return GateAnswer(gate=gate_of(service.settings.layout.job(job_id)))


@router.get("/jobs/{job_id}/samples", responses=OF_A_JOB | documented(400))
def job_samples(
    service: Svc,
    job_id: JobId,
    since: Annotated[int, Query(ge=0, description="First step.")] = 0,
    limit: Annotated[int, Query(ge=1, le=64, description="Groups at most.")] = 16,
) -> Listing[Said[SampledGroup]]:
    """Groups to look at, trained at step `since` or later, the newest `limit`, ascending."""
    service.jobs.get(job_id)
    kept = samples_of(service.settings.layout.job(job_id), limit + 1)
    found = [sample for sample in kept if sample.step >= since]
    return Listing(data=found[-limit:], has_more=len(found) > limit)


@router.get("/schema/job")
def show_job_schema() -> JsonObject:
    """The JSON schema of a job file, for editors and for whoever checks one."""
    return job_schema()


@router.get("/models")
def list_models(service: Svc) -> Page[ModelAnswer]:
    """Registered models: what a job's `model` may name."""
    names = service.settings.layout.model_names()
    return Page.of([ModelAnswer(id=name) for name in names], has_more=False)

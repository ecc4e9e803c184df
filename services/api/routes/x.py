"""/v1/x: what the OpenAI API has no word for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from services.api.bodies import Accepted, JsonBody, JsonRoute
from services.api.dependencies import Service, Svc
from services.api.parameters import JobId
from services.api.schemas.base import Page
from services.api.schemas.errors import documented
from services.api.schemas.extensions import (
    ModelAnswer,
    Scale,
    ScaleAnswer,
    TargetGroup,
)
from services.api.schemas.job_file import JsonObject, job_schema
from services.api.schemas.job_view import Desired, JobView, LedgerView, Waiting, WorkerView, streams_of
from services.api.schemas.jobs import JobFailure
from services.records.worker import ScaledKind
from services.store.job.transitions import ENDED
from services.trajectories.stream_stats import stream_stats

BY = "api"

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


@router.get("/schema/job")
def show_job_schema() -> JsonObject:
    """The JSON schema of a job file, for editors and validators."""
    return job_schema()


@router.get("/models")
def list_models(service: Svc) -> Page[ModelAnswer]:
    """Registered models: what a job's `model` may name."""
    names = service.settings.layout.model_names()
    return Page.of([ModelAnswer(id=name) for name in names], has_more=False)

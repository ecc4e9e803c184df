"""/v1/x/jobs/ID: what was measured of a job, what it means, and what there is to look at."""

from __future__ import annotations

import itertools
from typing import Annotated

from fastapi import APIRouter, Query

from services.api.bodies import JsonRoute
from services.api.dependencies import Svc
from services.api.jobs.explanation import explanation
from services.api.parameters import JobId
from services.api.schemas.base import Listing
from services.api.schemas.errors import documented
from services.api.schemas.extensions import (
    Explanation,
    FindingView,
    GateAnswer,
    MetricPoint,
)
from services.api.schemas.said import Said
from services.records.outcomes import EvaluationRecord
from services.records.record import numbers
from services.records.samples import SampledGroup
from services.records.step import StepRecord
from services.store.job.samples import gate_of, samples_of

router = APIRouter(prefix="/v1/x", tags=["extensions"], route_class=JsonRoute, responses=documented(401, 503))
OF_A_JOB = documented(404, 409)


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


def _select(record: StepRecord, names: list[str] | None) -> dict[str, float | None]:
    figures = dict(numbers(record))
    return figures if names is None else {name: figures[name] for name in names if name in figures}

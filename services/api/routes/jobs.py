"""/v1/fine_tuning/jobs: create, list, retrieve, cancel, pause, resume, events, checkpoints."""

from __future__ import annotations

import re
import secrets
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from services.api.bodies import Accepted, JsonBody, JsonRoute
from services.api.dependencies import Service, Svc
from services.api.errors import bad_request
from services.api.jobs.create import Known, build, with_id
from services.api.jobs.grading import try_grader
from services.api.jobs.repeats import job_id_for
from services.api.parameters import After, JobId, Most
from services.api.schemas.base import Page
from services.api.schemas.create import CreateJob
from services.api.schemas.errors import documented
from services.api.schemas.jobs import CheckpointAnswer, EventAnswer, JobAnswer, checkpoint_prefix
from services.job.datasets import count_rows
from services.store.files import StoredFileNotFound
from services.store.index import new_id
from services.store.job.transitions import CANCEL, PAUSE, RESUME, Action

BY = "api"
_METADATA = re.compile(r"metadata\[(.+)\]")

router = APIRouter(
    prefix="/v1/fine_tuning/jobs", tags=["fine-tuning jobs"], route_class=JsonRoute, responses=documented(401, 503)
)

Limit = Annotated[int, Query(ge=1, le=1_000), Most]


@router.post("", responses=documented(400, 409, 413))
def create_job(
    service: Svc, request: Request, body: Annotated[Accepted[CreateJob], Depends(JsonBody(CreateJob))]
) -> JobAnswer:
    """Accept a job. Sending the same request again after a time-out answers the same job."""
    draft = build(body, _known(service), job_id=new_id("ftjob"), created_at=int(time.time()), seed=secrets.randbits(31))
    job_id = job_id_for(service.creations, request.headers, body.raw, draft.record.id)
    if service.jobs.create(with_id(draft.record, job_id)):
        for warning in draft.warnings:
            service.events.add(job_id, warning, level="warn")
    return _show(service, job_id)


@router.get("", responses=documented(400))
def list_jobs(service: Svc, request: Request, after: After = None, limit: Limit = 20) -> Page[JobAnswer]:
    """A page of jobs, newest first; `metadata[KEY]=VALUE` filters."""
    metadata = {match[1]: value for name, value in request.query_params.items() if (match := _METADATA.fullmatch(name))}
    records, more = service.jobs.list(after=after, limit=limit, metadata=metadata)
    strict = service.settings.strict_openai_status
    return Page.of([JobAnswer.of(record, strict_status=strict) for record in records], more)


@router.get("/{job_id}", responses=documented(404, 409))
def retrieve_job(service: Svc, job_id: JobId) -> JobAnswer:
    """One job."""
    return _show(service, job_id)


@router.post("/{job_id}/cancel", responses=documented(404, 409))
def cancel_job(service: Svc, job_id: JobId) -> JobAnswer:
    """End a job for good."""
    return _act(service, job_id, CANCEL)


@router.post("/{job_id}/pause", responses=documented(404, 409))
def pause_job(service: Svc, job_id: JobId) -> JobAnswer:
    """Drain, checkpoint, release the workers; nothing is lost."""
    return _act(service, job_id, PAUSE)


@router.post("/{job_id}/resume", responses=documented(404, 409))
def resume_job(service: Svc, job_id: JobId) -> JobAnswer:
    """Go on with a paused job, or with a failed one from its last checkpoint."""
    return _act(service, job_id, RESUME)


@router.get("/{job_id}/events", responses=documented(400, 404, 409))
def list_events(service: Svc, job_id: JobId, after: After = None, limit: Limit = 20) -> Page[EventAnswer]:
    """A page of events, newest first."""
    service.jobs.get(job_id)
    events, more = service.events.list(job_id, after=after, limit=limit)
    return Page.of([EventAnswer.of(event) for event in events], more)


@router.get("/{job_id}/checkpoints", responses=documented(400, 404, 409))
def list_checkpoints(service: Svc, job_id: JobId, after: After = None, limit: Limit = 10) -> Page[CheckpointAnswer]:
    """A page of checkpoints, newest first."""
    record = service.jobs.get(job_id)
    newest_first = service.checkpoints.list(job_id)[::-1]
    if after is not None:
        step = after.removeprefix(checkpoint_prefix(record))
        if step == after or not step.isdigit():
            raise bad_request("after", f"no such id: {after!r}")
        newest_first = [checkpoint for checkpoint in newest_first if checkpoint.step < int(step)]
    views = [CheckpointAnswer.of(record, checkpoint) for checkpoint in newest_first[:limit]]
    return Page.of(views, len(newest_first) > limit)


def _act(service: Service, job_id: str, action: Action) -> JobAnswer:
    service.jobs.act(job_id, action, by=BY)
    return _show(service, job_id)


def _show(service: Service, job_id: str) -> JobAnswer:
    return JobAnswer.of(service.jobs.get(job_id), strict_status=service.settings.strict_openai_status)


def _known(service: Service) -> Known:
    layout = service.settings.layout

    def purpose_of(file_id: str) -> str | None:
        try:
            return service.files.get(file_id).purpose
        except StoredFileNotFound:
            return None

    return Known(
        find_model=layout.model,
        purpose_of=purpose_of,
        rows_of=lambda file_id: count_rows(layout.files / file_id),
        try_grader=lambda block: try_grader(service, block),
    )

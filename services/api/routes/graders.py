"""/v1/fine_tuning/alpha/graders: checked here, run by a grader process, never in this one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from services.api.bodies import JsonBody, parse
from services.api.dependencies import Service, Svc
from services.api.jobs.grading import ask_grader
from services.api.schemas.graders import RunGrader, ValidateGrader
from services.job.graders import parse_grader
from services.store.grader_requests import RequestKind

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", tags=["graders"])


@router.post("/run")
def run_grader(service: Svc, body: JsonBody) -> JSONResponse:
    """Grade one sample."""
    parse_grader(parse(RunGrader, body).grader)
    return _ask(service, "run", body)


@router.post("/validate")
def validate_grader(service: Svc, body: JsonBody) -> JSONResponse:
    """Check a grader the way a job would use it."""
    parse_grader(parse(ValidateGrader, body).grader)
    return _ask(service, "validate", body)


def _ask(service: Service, kind: RequestKind, body: dict[str, Any]) -> JSONResponse:
    reply = ask_grader(service, kind, body, service.settings.grader_timeout_seconds)
    return JSONResponse(reply.body, status_code=reply.status)

"""/v1/fine_tuning/alpha/graders: checked here, run by a grader process, never in this one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from services.api.bodies import Accepted, JsonBody, JsonRoute
from services.api.dependencies import Service, Svc
from services.api.jobs.grading import ask_grader
from services.api.schemas.errors import documented
from services.api.schemas.graders import GraderRunAnswer, RunGrader, ValidateGrader, ValidGrader
from services.job.graders import parse_grader
from services.job.strict_json import JsonObject
from services.store.grader_requests import RequestKind

router = APIRouter(
    prefix="/v1/fine_tuning/alpha/graders",
    tags=["graders"],
    route_class=JsonRoute,
    responses=documented(400, 401, 413, 503),
)


@router.post("/run", response_model=GraderRunAnswer)
def run_grader(service: Svc, body: Annotated[Accepted[RunGrader], Depends(JsonBody(RunGrader))]) -> JSONResponse:
    """Grade one sample."""
    parse_grader(body.value.grader)
    return _ask(service, "run", body.raw)


@router.post("/validate", response_model=ValidGrader)
def validate_grader(
    service: Svc, body: Annotated[Accepted[ValidateGrader], Depends(JsonBody(ValidateGrader))]
) -> JSONResponse:
    """Check a grader the way a job would use it."""
    parse_grader(body.value.grader)
    return _ask(service, "validate", body.raw)


def _ask(service: Service, kind: RequestKind, body: JsonObject) -> JSONResponse:
    reply = ask_grader(service, kind, body, service.settings.grader_timeout_seconds)
    return JSONResponse(reply.body, status_code=reply.status)

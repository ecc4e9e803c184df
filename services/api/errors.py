"""One form for every error: `{"error": {"message", "type", "param", "code"}}`.

Routes raise `ApiError` or let the store's own exceptions through; the table below turns store exceptions into answers.
The OpenAI SDK repeats a request after 409 and 5xx, so an error that a repeat can't change carries `x-should-retry:
false`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from services.api.schemas.errors import ErrorAnswer, ErrorDetail, ErrorType
from services.job.graders import GraderError
from services.store.client import StoreError
from services.store.files import StoredFileNotFound
from services.store.grader_requests import GraderUnavailable
from services.store.index import UnknownCursor
from services.store.job.jobs import JobNotFound
from services.store.job.operations import OperationConflict
from services.store.job.record import JobUnreadable
from services.store.job.transitions import IllegalTransition
from services.trajectories.dead.letters import LetterNotFound, NotRequeueable

log = structlog.get_logger()

MAX_PARAM_CHARACTERS = 200
NOT_WORTH_REPEATING = frozenset({HTTPStatus.CONFLICT, HTTPStatus.NOT_IMPLEMENTED})
_FIELD_PREFIX = re.compile(r"(?:Value error, )?([A-Za-z_][\w.]*): (.+)", re.DOTALL)
_REQUEST_PARTS = frozenset({"body", "query", "path", "header"})


class ApiError(Exception):
    """An answer with an error envelope."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        if status in NOT_WORTH_REPEATING or code == "grader_unavailable":
            self.headers["x-should-retry"] = "false"


def bad_request(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """400, naming the field."""
    return ApiError(400, message, code=code, param=param[:MAX_PARAM_CHARACTERS] if param else None)


def _type_of(status: int) -> ErrorType:
    if status == HTTPStatus.UNAUTHORIZED:
        return "authentication_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def from_validation(errors: Sequence[Any]) -> ApiError:
    """400 for what pydantic found first.

    A ValueError of ours whose text begins with `field: ` names a field below the place pydantic knows.
    """
    first = errors[0]
    param = _dotted(first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error" and (match := _FIELD_PREFIX.fullmatch(message)):
        param, message = f"{param}.{match[1]}" if param else match[1], match[2]
    if first["type"] == "missing":
        return bad_request(param, f"Missing required field '{param}'", "missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return bad_request(param, f"Unknown field '{param}'", "unknown_parameter")
    if first["type"] == "json_invalid":
        return bad_request(None, f"The body is not JSON: {first.get('ctx', {}).get('error', message)}", "invalid_json")
    return bad_request(param, f"Invalid '{param}': {message[:1].lower()}{message[1:]}" if param else message)


def _dotted(location: Sequence[str | int]) -> str:
    parts = list(location)
    if parts and parts[0] in _REQUEST_PARTS:
        parts = parts[1:]
    return ".".join(str(part) for part in parts if part != "[key]")


def _from_http(error: HTTPException) -> ApiError:
    codes = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}
    code = codes.get(error.status_code, "invalid_request")
    return ApiError(error.status_code, str(error.detail), code=code, headers=error.headers)


def to_response(error: ApiError) -> JSONResponse:
    """The answer of an error."""
    detail = ErrorDetail(message=error.message, type=_type_of(error.status), param=error.param, code=error.code)
    return JSONResponse(ErrorAnswer(error=detail).model_dump(), status_code=error.status, headers=error.headers)


def _grader_refused(error: GraderError) -> ApiError:
    param = f"grader.{error.field}" if error.field else "grader"
    return bad_request(param, f"Invalid '{param}': {error.message}", "invalid_grader")


def _store_failed(error: Exception) -> ApiError:
    log.warning("store_failed", reason=str(error))
    return ApiError(503, "The store is not reachable", code="store_unavailable", headers={"retry-after": "1"})


_ANSWERS: dict[type[Exception], Callable[[Any], ApiError]] = {
    ApiError: lambda error: error,
    RequestValidationError: lambda error: from_validation(error.errors()),
    GraderError: _grader_refused,
    UnknownCursor: lambda error: bad_request("after", str(error)),
    JobNotFound: lambda error: ApiError(404, str(error), code="job_not_found", param="fine_tuning_job_id"),
    JobUnreadable: lambda error: ApiError(409, str(error), code="job_unreadable", param="fine_tuning_job_id"),
    StoredFileNotFound: lambda error: ApiError(404, str(error), code="file_not_found", param="file_id"),
    LetterNotFound: lambda error: ApiError(404, str(error), code="dead_letter_not_found", param="letter_id"),
    NotRequeueable: lambda error: ApiError(409, str(error), code="not_requeueable", param="letter_id"),
    IllegalTransition: lambda error: ApiError(409, str(error), code="invalid_state", param="status"),
    OperationConflict: lambda error: ApiError(409, str(error), code="operation_conflict", param="operation_id"),
    GraderUnavailable: lambda error: ApiError(503, str(error), code="grader_unavailable"),
    StoreError: _store_failed,
    HTTPException: _from_http,
}
"""The answer to an exception of the store, the shared packages or the framework."""


def install(app: FastAPI) -> None:
    """Make every expected exception answer with the envelope."""
    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, _handler(answer))


def _handler(answer: Callable[[Any], ApiError]) -> Callable[[Request, Exception], JSONResponse]:
    return lambda request, error: to_response(answer(error))

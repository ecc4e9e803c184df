"""The one form of every error, and what each status means."""

from __future__ import annotations

from typing import Any, Literal

from services.api.schemas.base import AnswerModel

Responses = dict[int | str, dict[str, Any]]
"""What FastAPI takes as a route's `responses`."""
ErrorType = Literal["invalid_request_error", "authentication_error", "server_error"]


class ErrorDetail(AnswerModel):
    """What went wrong."""

    message: str
    """In words."""
    type: ErrorType
    """Whose fault it is: the request's, the key's or the service's."""
    param: str | None
    """The request's field at fault, as a dotted path; null where there is none."""
    code: str
    """The same for programs: stays the same while words change."""


class ErrorAnswer(AnswerModel):
    """Every answer that is no success."""

    error: ErrorDetail
    """What went wrong."""


WHEN = {
    400: "The request is wrong; `param` names its field.",
    401: "The key is missing or wrong.",
    404: "Nothing has this id.",
    409: "Not in this state, or not with what was said before. Repeating it changes nothing.",
    413: "The body is larger than the service takes.",
    503: "What is needed for the answer is away for now: try again later.",
}
ANYTHING_ELSE: Responses = {"default": {"model": ErrorAnswer, "description": "Any other error."}}


def documented(*statuses: int) -> Responses:
    """These statuses for a route's `responses`."""
    return {status: {"model": ErrorAnswer, "description": WHEN[status]} for status in statuses}


def no_json(media_type: str) -> Responses:
    """A success that is no JSON, for a route's `responses`."""
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}

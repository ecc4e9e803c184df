"""Questions to the standing grader process: how many at once, and what its answers mean here."""

from __future__ import annotations

from services.api.dependencies import Service
from services.api.errors import ApiError
from services.job.graders import GraderError, RegexMatchGrader, parse_grader
from services.job.strict_json import JsonObject, as_object
from services.store.grader_requests import GraderReply, GraderUnavailable, RequestKind, ask

TRY_SECONDS = 5.0
"""How long a job's creation waits for an answer on its grader."""


def ask_grader(service: Service, kind: RequestKind, body: JsonObject, timeout_seconds: float) -> GraderReply:
    """The answer of the process. Raises GraderUnavailable, and ApiError (503) when too many wait already."""
    if not service.grader_slots.acquire(blocking=False):
        raise ApiError(503, "Too many grader requests at once", code="grader_busy", headers={"retry-after": "1"})
    try:
        return ask(service.client, kind, body, timeout_seconds)
    finally:
        service.grader_slots.release()


def try_grader(service: Service, block: JsonObject) -> None:
    """Have a pattern compiled where that can be stopped. Raises GraderError.

    Without an answer the job is accepted: the controller asks again before anything of it starts.
    """
    if not isinstance(parse_grader(block), RegexMatchGrader):
        return
    timeout_seconds = min(TRY_SECONDS, service.settings.grader_timeout_seconds)
    try:
        reply = ask_grader(service, "validate", {"grader": block}, timeout_seconds)
    except (GraderUnavailable, ApiError):
        return
    if reply.status != 200:
        error = as_object(reply.body["error"])
        field = str(error["param"]).removeprefix("grader").removeprefix(".")
        raise GraderError(field, str(error["message"]).removeprefix(f"Invalid '{error['param']}': "))

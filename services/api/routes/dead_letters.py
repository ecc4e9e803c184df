"""/v1/x/jobs/{id}/dead_letters: messages nobody could read; list, inspect, requeue."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.api.dependencies import Svc
from services.api.views import letter_view, page

router = APIRouter(prefix="/v1/x/jobs/{job_id}/dead_letters", tags=["extensions"])

Limit = Annotated[int, Query(ge=1, le=100)]


@router.get("")
def list_dead_letters(service: Svc, job_id: str, after: str | None = None, limit: Limit = 20) -> dict[str, Any]:
    """A page, newest first, without payloads. Letters stay readable after the job's end."""
    service.jobs.get(job_id)
    letters, more = service.dead_letters.list(job_id, after=after, limit=limit)
    return page([letter_view(letter) for letter in letters], more)


@router.get("/{letter_id}")
def show_dead_letter(service: Svc, job_id: str, letter_id: str) -> dict[str, Any]:
    """One letter, with what of its payload could be decoded. Figures that are not finite are null."""
    service.jobs.get(job_id)
    letter, payload = service.dead_letters.get(job_id, letter_id)
    return {**letter_view(letter), "payload": payload}


@router.post("/{letter_id}/requeue")
def requeue_dead_letter(service: Svc, job_id: str, letter_id: str) -> dict[str, Any]:
    """Have its prompt issued anew under a new number, as soon as a step needs a group: `requeued_as`, then.

    Asking again answers the same wish. 409 for a job that has ended, and for a letter that names no issued group.
    """
    return letter_view(service.dead_letters.requeue(job_id, letter_id))

"""/v1/x/jobs/{id}/dead_letters: messages nobody could read; list, inspect, requeue."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import APIRouter, Query

from services.api.dependencies import Svc
from services.api.parameters import After, JobId, LetterId, Most
from services.api.schemas.base import Page
from services.api.schemas.dead_letters import LetterAnswer, LetterDetail
from services.api.schemas.errors import documented

router = APIRouter(
    prefix="/v1/x/jobs/{job_id}/dead_letters", tags=["extensions"], responses=documented(401, 404, 409, 503)
)

Limit = Annotated[int, Query(ge=1, le=100), Most]


@router.get("", responses=documented(400))
def list_dead_letters(service: Svc, job_id: JobId, after: After = None, limit: Limit = 20) -> Page[LetterAnswer]:
    """A page, newest first, without payloads. Letters stay readable after the job's end."""
    service.jobs.get(job_id)
    letters, more = service.dead_letters.list(job_id, after=after, limit=limit)
    return Page.of([LetterAnswer.of(letter) for letter in letters], more)


@router.get("/{letter_id}")
def show_dead_letter(service: Svc, job_id: JobId, letter_id: LetterId) -> LetterDetail:
    """One letter, with what of its payload could be decoded. Figures that are not finite are null."""
    service.jobs.get(job_id)
    letter, payload = service.dead_letters.get(job_id, letter_id)
    return LetterDetail(**dataclasses.asdict(letter), payload=payload)


@router.post("/{letter_id}/requeue")
def requeue_dead_letter(service: Svc, job_id: JobId, letter_id: LetterId) -> LetterAnswer:
    """Have its prompt issued anew under a new number, as soon as a step needs a group: `requeued_as`, then.

    Asking again answers the same wish. 409 for a job that has ended, and for a letter that names no issued group.
    """
    return LetterAnswer.of(service.dead_letters.requeue(job_id, letter_id))

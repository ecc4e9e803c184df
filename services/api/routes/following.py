"""/v1/x/jobs/ID/events/stream: a job's events as they happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from services.api.bodies import JsonRoute
from services.api.dependencies import Service, Svc
from services.api.parameters import JobId
from services.api.schemas.errors import documented, no_json
from services.api.schemas.jobs import EventAnswer
from services.store.job.transitions import ENDED

POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0

router = APIRouter(prefix="/v1/x", tags=["extensions"], route_class=JsonRoute, responses=documented(401, 503))
OF_A_JOB = documented(404, 409)


@router.get(
    "/jobs/{job_id}/events/stream",
    response_class=StreamingResponse,
    responses=no_json("text/event-stream") | OF_A_JOB | documented(400),
)
def stream_events(
    service: Svc,
    job_id: JobId,
    last_event_id: Annotated[str, Header(description="Id of the last event that was heard.")] = "",
    after: Annotated[str, Query(description="The same, for clients that can't set headers.")] = "",
) -> StreamingResponse:
    """Server-sent events: all events after `Last-Event-ID` (or `after`), then each new one until the job has ended."""
    service.jobs.get(job_id)
    position = last_event_id or after
    service.events.follow(job_id, position)  # an unknown id is a 400 now rather than a broken stream
    return StreamingResponse(_follow(service, job_id, position), media_type="text/event-stream")


async def _follow(service: Service, job_id: str, position: str) -> AsyncIterator[str]:
    heard = time.monotonic()
    while True:
        # Status first: an event written before the job ended is then in the batch that follows.
        ended = (await asyncio.to_thread(service.jobs.get, job_id)).status in ENDED
        events = await asyncio.to_thread(service.events.follow, job_id, position)
        for event in events:
            position = event.id
            yield f"id: {event.id}\nevent: {event.type}\ndata: {EventAnswer.of(event).model_dump_json()}\n\n"
        if events:
            heard = time.monotonic()
            continue
        if ended:
            yield "event: end\ndata: {}\n\n"
            return
        if time.monotonic() - heard > KEEP_ALIVE_SECONDS:
            heard = time.monotonic()
            yield ": keep-alive\n\n"
        await asyncio.sleep(POLL_SECONDS)

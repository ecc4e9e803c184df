"""Following a job until it has ended: live on a terminal, line by line elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import takewhile

import typer
from openai import APIConnectionError, OpenAI
from openai.types.fine_tuning import FineTuningJobEvent
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from services.api.schemas.job_view import JobView
from services.cli.job_view import details
from services.job.strict_json import JsonObject
from services.store.job.transitions import ENDED

POLL_SECONDS = 1.0
ABSENCE_SECONDS = 60.0
"""How long the service may be away (a restart) before the watch gives up."""
SHOWN_EVENTS = 8


def follow(api: OpenAI, job_id: str, *, quiet: bool, as_json: bool) -> str:
    """Show a job until it has ended; answers its last status. Raises APIConnectionError when the service stays away."""
    console = Console()
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not (quiet or as_json) else None
    recent: list[Text] = []
    with live or nullcontext():
        for view, events in _changes(api, job_id):
            recent = [*recent, *map(_line, events)][-SHOWN_EVENTS:]
            if live:
                live.update(Group(details(view), Text(), *recent), refresh=True)
            elif as_json:
                for event in events:
                    typer.echo(json.dumps(event.to_dict()))
            elif not quiet:
                for event in events:
                    typer.echo(_line(event).plain)
    return view.status.value


def _changes(api: OpenAI, job_id: str) -> Iterator[tuple[JobView, list[FineTuningJobEvent]]]:
    """The job's view and its new events, oldest first, once a second and a last time when it has ended."""
    last_id = None
    seen = time.monotonic()
    while True:
        try:
            # The view first: events written before the job ended are then among those that follow.
            view = JobView.model_validate(api.get(f"/x/jobs/{job_id}", cast_to=JsonObject))
            events = _events_after(api, job_id, last_id)
        except APIConnectionError:
            if time.monotonic() - seen > ABSENCE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        seen = time.monotonic()
        last_id = events[-1].id if events else last_id
        yield view, events
        if view.status in ENDED:
            return
        time.sleep(POLL_SECONDS)


def _events_after(api: OpenAI, job_id: str, last_id: str | None) -> list[FineTuningJobEvent]:
    newest_first = iter(api.fine_tuning.jobs.list_events(job_id, limit=100))
    return list(takewhile(lambda event: event.id != last_id, newest_first))[::-1]


def _line(event: FineTuningJobEvent) -> Text:
    at = time.strftime("%H:%M:%S", time.localtime(event.created_at))
    style = {"warn": "yellow", "error": "red"}.get(event.level, "")
    return Text(f"{at}  {event.message}", style=style)

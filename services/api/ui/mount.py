"""Puts the dashboard into the API's process.

NiceGUI keeps its app, its pages and its clients once per process, so the dashboard is mounted once per process.
`create_app` alone serves no dashboard, and any number of such apps may live together.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.requests import Request

from services.api.dependencies import Service
from services.api.ui.frame import FAVICON
from services.api.ui.login import login_router
from services.api.ui.pages.compare import ComparePage, offered
from services.api.ui.pages.job import JobPage, missing_page
from services.api.ui.pages.jobs import jobs_page
from services.api.ui.session import Guard, Sessions
from services.api.ui.watch import Watches
from services.store.job.jobs import JobNotFound

PATH = "/ui"
RECONNECT_SECONDS = 10.0
KEPT_MESSAGES = 50
"""For a browser that was away for a moment; one that missed more loads its page again."""


def mount_dashboard(app: FastAPI) -> None:
    """Serve the dashboard of the app's store at /ui. Raises RuntimeError in a process that has one already."""
    if nicegui_app.config.has_run_config:
        raise RuntimeError("this process has a dashboard already: NiceGUI keeps one per process")
    service: Service = app.state.service
    _register_pages(service, Watches(service))
    sessions = Sessions(service.settings.api_key)
    nicegui_app.include_router(login_router(sessions))
    app.add_api_route(PATH, _to_pages, include_in_schema=False)
    ui.run_with(
        app,
        mount_path=PATH,
        title="SSPO",
        favicon=FAVICON,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_SECONDS,
        message_history_length=KEPT_MESSAGES,
        show_welcome_message=False,
    )
    nicegui_app.add_middleware(Guard, sessions)  # added last: outermost


def _to_pages() -> RedirectResponse:
    return RedirectResponse(f"{PATH}/")


def _register_pages(service: Service, watches: Watches) -> None:
    @ui.page("/")
    def jobs(request: Request) -> None:
        jobs_page(request, watches)

    @ui.page("/jobs/{job_id}")
    async def job(request: Request, job_id: str) -> None:
        try:
            await asyncio.to_thread(service.jobs.get, job_id)
        except JobNotFound:
            missing_page(request, job_id)
        else:
            JobPage(request, service, watches, job_id)

    @ui.page("/compare")
    async def compare(request: Request) -> None:
        ComparePage(request, watches, await asyncio.to_thread(offered, service))

"""One job, live: what it does, its drift, its samples, its workers and queues, its events."""

from __future__ import annotations

import json

from nicegui import ui
from starlette.requests import Request

from services.api.dependencies import Service
from services.api.ui.frame import Frame
from services.api.ui.html import Markup, safe, status_mark
from services.api.ui.job_reading import JobLook
from services.api.ui.pages.tabs import Drift, Flow, Log, Overview, Samples, Tab
from services.api.ui.panels import state
from services.api.ui.panels.actions import Actions
from services.api.ui.panels.tiles import tiles
from services.api.ui.watch import Watches

TABS = {"overview": "Overview", "drift": "Drift", "samples": "Samples", "flow": "Workers & queues", "events": "Events"}
WITH_CURVES = {"overview", "drift", "flow"}
RANGES = {0: "all steps", 1000: "last 1000 steps", 200: "last 200 steps", 50: "last 50 steps"}


class JobPage:
    """The page's elements; only those of the open tab are drawn."""

    def __init__(self, request: Request, service: Service, watches: Watches, job_id: str) -> None:
        self._service, self._job_id = service, job_id
        self._watch = watches.job(job_id)
        self._look: JobLook | None = None
        self._frame = Frame(request, "", job_id)
        self._frame.theme.on_change = self._redraw
        asked = request.query_params.get("tab", "")
        with self._frame.main:
            with ui.element("div").classes("head"):
                with ui.element("div").classes("who"):
                    self._name = ui.html(f"<h1>{safe(job_id)}</h1>", sanitize=False)
                    self._state = ui.html("", sanitize=False).classes("stack").style("margin-top: 6px")
                self._actions = Actions(service, job_id, self._watch.hurry)
            self._tiles = ui.html("", sanitize=False)
            with ui.element("div").classes("tab-line"):
                self._tabs = ui.tabs(on_change=self._turn)
                with self._tabs.props('align="left" dense no-caps mobile-arrows outside-arrows'):
                    for name, label in TABS.items():
                        ui.tab(name, label)
                self._range = ui.select(RANGES, value=0, on_change=self._redraw)
                self._range.props('dense outlined options-dense aria-label="Steps shown"').classes("range")
            self._contents: dict[str, Tab] = {}
            with ui.tab_panels(self._tabs, value=asked if asked in TABS else "overview", animated=False):
                for name in TABS:
                    with ui.tab_panel(name), ui.element("div").classes("grid"):
                        self._contents[name] = self._content(name)
        self._frame.watch(self._watch, self._draw)

    def _content(self, name: str) -> Tab:
        if name == "overview":
            return Overview()
        if name == "drift":
            return Drift(self._redraw)
        if name == "samples":
            return Samples(self._service, self._job_id, self._redraw)
        return Flow(self._service, self._job_id, self._watch.hurry) if name == "flow" else Log()

    def _turn(self) -> None:
        """Another tab: its name goes into the address, so that it can be sent to others and survives a reload."""
        address = f"?tab={self._tabs.value}"
        ui.run_javascript(f"history.replaceState(history.state, '', {json.dumps(address)})")
        self._redraw()

    def _redraw(self) -> None:
        if self._look is not None:
            self._draw(self._look)

    def _draw(self, look: JobLook) -> None:
        self._look = look
        self._set(self._name, _name(look))
        self._set(self._state, state.heading(look))
        self._set(self._tiles, tiles(look))
        self._actions.draw(look)
        self._range.set_visibility(str(self._tabs.value) in WITH_CURVES)
        last = int(self._range.value) or None
        self._contents[str(self._tabs.value)].draw(self._frame.theme.palette, look, last)

    @staticmethod
    def _set(element: ui.html, content: str) -> None:
        if element.content != content:
            element.content = content


def _name(look: JobLook) -> Markup:
    record = look.record
    suffix = record.request.get("suffix")
    about = f"{record.spec.model}{f' · {suffix}' if suffix else ''} · {record.spec.objective['name']}"
    return Markup(
        f'<div class="line"><h1>{safe(record.id)}</h1>{status_mark(record.status)}'
        f'<span class="muted">{safe(about)}</span></div>'
    )


def missing_page(request: Request, job_id: str) -> None:
    """There is no such job."""
    frame = Frame(request, "", "No such job")
    root = request.scope.get("root_path", "")
    with frame.main:
        text = f'There is no job <code>{safe(job_id)}</code>. <a href="{root}/">All jobs</a>'
        ui.html(f'<div class="empty"><p>{text}</p></div>', sanitize=False)

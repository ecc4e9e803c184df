"""The tabs of a job's page. Each builds its panels in the current container and draws them from a look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Protocol

from nicegui import ui

from services.api.dependencies import Service
from services.api.ui.html import Markup, safe
from services.api.ui.job_reading import SHOWN_SAMPLES, JobLook
from services.api.ui.palette import Palette
from services.api.ui.panels import state
from services.api.ui.panels.actions import Scaling
from services.api.ui.panels.curves import DRIFT, OVERVIEW, SPEED, Curves
from services.api.ui.panels.panel import ChartPanel, HtmlPanel, Panel
from services.api.ui.panels.ratios import RatioPanels
from services.api.ui.panels.samples import SamplesPanel
from services.api.ui.words import clock
from services.store.job.samples import samples_of

SHORT_EVENTS = 12


class Tab(Protocol):
    """The methods of a tab that its page calls."""

    def draw(self, palette: Palette, look: JobLook, last: int | None) -> None: ...


class _CurvePanels:
    def __init__(self, curves: Sequence[Curves]) -> None:
        self._panels = [(one, ChartPanel(one.key, one.title, width=one.width)) for one in curves]
        self._drawn: object = None

    def draw(self, palette: Palette, look: JobLook, last: int | None) -> None:
        drawn = (look.series, len(look.evaluations), palette, last)
        if drawn == self._drawn and len(look.series):
            return
        self._drawn = drawn
        for curves, panel in self._panels:
            empty = curves.empty if len(look.series) else state.waiting(look)
            panel.show(curves.draw(palette, look, last), empty)


class Overview:
    """How the job does, what its figures mean, what happened."""

    def __init__(self) -> None:
        self._findings = HtmlPanel("findings", "What the figures say", width="wide")
        self._curves = _CurvePanels(OVERVIEW)
        self._guard = HtmlPanel("guard", "Drift guard")
        self._events = HtmlPanel("events", "Events")

    def draw(self, palette: Palette, look: JobLook, last: int | None) -> None:
        self._findings.show(state.findings(look.findings))
        self._curves.draw(palette, look, last)
        self._guard.show(state.guard(look))
        self._events.show(state.events(look.events[:SHORT_EVENTS], short=True))


class Drift:
    """Everything about ratios."""

    def __init__(self, redraw: Callable[[], None]) -> None:
        self._ratios = RatioPanels(redraw)
        self._curves = _CurvePanels(DRIFT)

    def draw(self, palette: Palette, look: JobLook, last: int | None) -> None:
        self._ratios.draw(palette, look, last, state.waiting(look))
        self._curves.draw(palette, look, last)


class Samples:
    """Completions; the file they lie in is read when a step has come."""

    def __init__(self, service: Service, job_id: str, redraw: Callable[[], None]) -> None:
        self._folder, self._redraw = service.settings.layout.job(job_id), redraw
        self._read_at: int | None = None
        self._panel = SamplesPanel(redraw)

    def draw(self, palette: Palette, look: JobLook, last: int | None) -> None:
        if self._read_at != look.series.last_step:
            self._read_at = look.series.last_step
            ui.timer(0, self._read, once=True)
        waiting = "No completion was kept for looking at yet" if len(look.series) else state.waiting(look)
        self._panel.draw(palette, waiting)

    async def _read(self) -> None:
        self._panel.take(await asyncio.to_thread(samples_of, self._folder, SHOWN_SAMPLES))
        self._redraw()


class Flow:
    """Workers, queues, ledger, speed."""

    def __init__(self, service: Service, job_id: str, hurry: Callable[[], None]) -> None:
        workers = Panel("workers", "Workers", width="wide")
        with workers.body:
            self._scaling = Scaling(service, job_id, hurry)
            self._workers = ui.html("", sanitize=False)
        self._curves = _CurvePanels(SPEED)
        self._queues = HtmlPanel("queues", "Queues")
        self._ledger = HtmlPanel("ledger", "Ledger")

    def draw(self, palette: Palette, look: JobLook, last: int | None) -> None:
        self._scaling.draw(look)
        content = state.workers(look)
        if self._workers.content != content:
            self._workers.content = content
        self._curves.draw(palette, look, last)
        self._queues.show(state.queues(look))
        self._ledger.show(state.ledger(look))


class Log:
    """Events, evaluations, checkpoints, and the job as it was resolved."""

    def __init__(self) -> None:
        self._events = HtmlPanel("events", "Events", width="wide")
        self._evaluations = HtmlPanel("evaluations", "Evaluations")
        self._checkpoints = HtmlPanel("checkpoints", "Checkpoints")
        self._spec = HtmlPanel("spec", "The job, every default filled in", width="wide")

    def draw(self, palette: Palette, look: JobLook, last: int | None) -> None:
        self._events.show(state.events(look.events))
        self._evaluations.show(state.evaluations(look))
        self._checkpoints.show(state.checkpoints(look))
        self._spec.show(_spec(look))


def _spec(look: JobLook) -> Markup:
    record = look.record
    shown = {
        "id": record.id,
        "created": clock(record.created_at),
        "model": record.spec.model,
        "training_file": record.spec.training_file,
        "validation_file": record.spec.validation_file,
        "seed": record.spec.seed,
        "metadata": record.request.get("metadata"),
        "grader": record.spec.grader,
        **record.spec.blocks(),
    }
    text = json.dumps(shown, indent=2, ensure_ascii=False)
    return Markup(f'<details><summary>Show</summary><pre class="mono scroll">{safe(text)}</pre></details>')

"""Several jobs, their curves over one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from nicegui import ui
from starlette.requests import Request

from services.api.dependencies import Service
from services.api.ui.charts.base import Options
from services.api.ui.charts.lines import Line, line_chart
from services.api.ui.frame import Frame
from services.api.ui.html import Markup, safe, script, status_mark, table
from services.api.ui.job_reading import JobLook
from services.api.ui.palette import Palette
from services.api.ui.panels.curves import tokens_per_second
from services.api.ui.panels.panel import ChartPanel
from services.api.ui.series import Column
from services.api.ui.thinning import Points, thin
from services.api.ui.watch import Watches
from services.api.ui.words import count, number
from services.store.job.record import JobRecord

Shown = Column | Literal["evaluation", "throughput"]
"""A column, or what is computed of several."""
MOST_JOBS = 6
OFFERED_JOBS = 200


@dataclass(frozen=True)
class Compared:
    """One figure of all chosen jobs."""

    key: str
    title: str
    axis: str
    figure: Shown
    log: bool = False
    per_cent: bool = False
    low: float | None = None
    high: float | None = None


FIGURES = (
    Compared("reward", "Reward, training", "reward", "reward"),
    Compared("reward", "Reward, evaluation", "reward", "evaluation"),
    Compared("ess", "Effective sample size of sequences", "share of samples", "ess_sequence", high=1),
    Compared("kl", "Distance to the behaviour policy", "KL k3 (nats per token)", "kl_k3", log=True),
    Compared("band", "Tokens outside 0.9 to 1.1", "share of tokens", "outside_band", per_cent=True, low=0),
    Compared("staleness", "Staleness, mean", "steps", "staleness_mean", low=0),
    Compared("weights", "Share of tokens gated off", "share of tokens", "saturated", per_cent=True, low=0),
    Compared("throughput", "Throughput", "tokens / s", "throughput", low=0),
)


class ComparePage:
    """The choice, a table of what the jobs are, and a chart for each figure."""

    def __init__(self, request: Request, watches: Watches, jobs: Sequence[JobRecord]) -> None:
        self._watches = watches
        self._root = request.scope.get("root_path", "")
        self._looks: dict[str, JobLook] = {}
        self._watched: dict[str, Callable[[], None]] = {}
        """Job → how to end its watch."""
        self._drawn: tuple[object, ...] = ()
        self._frame = Frame(request, "Compare", "Compare")
        self._frame.theme.on_change = self._draw
        names = {job.id: f"{job.id} · {job.spec.model} · {job.status.value}" for job in jobs}
        asked = [job_id for job_id in request.query_params.get("jobs", "").split(",") if job_id in names]
        with self._frame.main:
            ui.html("<h1>Compare jobs</h1>", sanitize=False)
            self._chosen = ui.select(names, multiple=True, value=asked[:MOST_JOBS], on_change=self._choose)
            self._chosen.props(f'outlined use-chips options-dense max-values="{MOST_JOBS}" label="Jobs"')
            self._chosen.style("width: 100%")
            self._about = ui.html("", sanitize=False)
            with ui.element("div").classes("grid"):
                self._panels = [(one, ChartPanel(one.key, one.title)) for one in FIGURES]
        self._choose()

    def _choose(self) -> None:
        chosen = list(self._chosen.value)
        for job_id in [job_id for job_id in self._watched if job_id not in chosen]:
            self._watched.pop(job_id)()
            self._looks.pop(job_id, None)
        for job_id in chosen:
            if job_id not in self._watched:
                self._watched[job_id] = self._frame.watch(self._watches.job(job_id), self._taker(job_id))
        address = f"?jobs={','.join(chosen)}"
        ui.run_javascript(f"history.replaceState(history.state, '', {script(address)})")
        self._draw()

    def _taker(self, job_id: str) -> Callable[[JobLook], None]:
        def take(look: JobLook) -> None:
            self._looks[job_id] = look
            if job_id in self._chosen.value:
                self._draw()

        return take

    def _draw(self) -> None:
        palette = self._frame.theme.palette
        looks = [self._looks[job_id] for job_id in self._chosen.value if job_id in self._looks]
        about = _about(palette, looks, self._root)
        if self._about.content != about:
            self._about.content = about
        drawn = (palette.dark, *((look.record.id, look.series, len(look.evaluations)) for look in looks))
        if looks and drawn == self._drawn:
            return
        self._drawn = drawn
        empty = "None of these jobs has this figure yet" if self._chosen.value else "Choose two jobs or more above"
        for compared, panel in self._panels:
            panel.show(_chart(palette, compared, looks), empty)


def _chart(palette: Palette, compared: Compared, looks: Sequence[JobLook]) -> Options | None:
    lines = [
        Line(
            look.record.id,
            _points(look, compared.figure),
            palette.lines[place % len(palette.lines)],
            dashed=place % 2 == 1,
            symbol=("diamond", "circle", "triangle", "rect")[place % 4] if compared.figure == "evaluation" else None,
        )
        for place, look in enumerate(looks)
    ]
    return line_chart(
        palette,
        lines,
        compared.axis,
        log=compared.log,
        per_cent=compared.per_cent,
        low=compared.low,
        high=compared.high,
    )


def _points(look: JobLook, figure: Shown) -> Points:
    if figure == "evaluation":
        return [[record.step, record.reward_mean] for record in look.evaluations]
    if figure == "throughput":
        return thin(look.series.steps(), tokens_per_second(look))
    return look.series.points(figure)


def _about(palette: Palette, looks: Sequence[JobLook], root: str) -> Markup:
    if not looks:
        return Markup("")
    rows = []
    for place, look in enumerate(looks):
        record, colour = look.record, palette.lines[place % len(palette.lines)]
        spec = record.spec
        dot = f'<i style="display:inline-block;width:10px;height:10px;border-radius:50%;background:{colour}"></i>'
        name = f'{dot} <a class="job" href="{root}/jobs/{safe(record.id)}">{safe(record.id)}</a>'
        evaluated = [one.reward_mean for one in look.evaluations if one.reward_mean is not None]
        rows.append([
            Markup(name), status_mark(record.status), spec.objective["name"], spec.objective.get("gate", "–"),
            number(spec.learner.learning_rate), spec.learner.max_staleness, count(look.progress.next_step),
            number(look.series.newest("reward")), number(evaluated[-1]) if evaluated else "–",
        ])  # fmt: skip
    heads = ["job", "status", "objective", "gate", "learning rate", "staleness limit", "step", "reward", "evaluation"]
    shown = table(heads, rows, numbers=(4, 5, 6, 7, 8))
    return Markup(f'<section class="panel wide">{shown}</section>')


def offered(service: Service) -> list[JobRecord]:
    """The jobs one may choose from, newest first."""
    records, _ = service.jobs.list(limit=OFFERED_JOBS)
    return records

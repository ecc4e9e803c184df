"""The list of jobs."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from services.api.ui.frame import Frame
from services.api.ui.html import Markup, empty, progress_bar, safe, status_mark, table
from services.api.ui.job_reading import SHOWN_JOBS, JobRow, JobsLook
from services.api.ui.watch import Watches
from services.api.ui.words import NOTHING, clock, count, number, since
from services.store.job.transitions import ENDED, WAITS_FOR

HEADS = ("job", "status", "waits for", "step", "reward", "ESS", "rollout workers", "reward workers", "created")
NONE_YET = "No job yet. Submit one with the openai SDK, curl or `sspo job submit`: the README shows how."


def jobs_page(request: Request, watches: Watches) -> None:
    """Build the page."""
    frame = Frame(request, "Jobs", "Jobs")
    root = request.scope.get("root_path", "")
    with frame.main:
        with ui.element("div").classes("head"):
            ui.html("<h1>Jobs</h1>", sanitize=False)
            totals = ui.html("", sanitize=False)
        with ui.element("section").classes("panel wide").style("padding: 4px 6px"):
            rows = ui.html(empty("Reading the jobs"), sanitize=False)

    def draw(look: JobsLook) -> None:
        for element, content in ((totals, _totals(look)), (rows, _rows(look, root))):
            if element.content != content:
                element.content = content

    frame.watch(watches.list, draw)


def _totals(look: JobsLook) -> Markup:
    counts = (f"{number} {status.value.replace('_', ' ')}" for status, number in look.counts.items() if number)
    return Markup(f'<p class="muted">{" · ".join(counts)}</p>')


def _rows(look: JobsLook, root: str) -> Markup:
    if not look.rows:
        return empty(NONE_YET)
    shown = table(HEADS, (_row(row, root) for row in look.rows), numbers=(4, 5, 6, 7), kind="jobs")
    left_out = sum(look.counts.values()) - len(look.rows)
    more = f'<p class="muted small" style="padding: 8px 10px">and {left_out} older jobs</p>' if left_out > 0 else ""
    return Markup(f"{shown}{more}") if len(look.rows) == SHOWN_JOBS else shown


def _row(row: JobRow, root: str) -> list[object]:
    record = row.record
    wanted = record.spec.learner.steps
    suffix = record.request.get("suffix")
    name = f"{record.spec.model}{f' · {suffix}' if suffix else ''} · {record.spec.objective['name']}"
    title = Markup(
        f'<a class="job" href="{root}/jobs/{safe(record.id)}">{safe(record.id)}</a>'
        f'<div class="muted small">{safe(name)}</div>'
    )
    bar = progress_bar(row.step / wanted, f"{row.step} of {wanted} steps")
    step = Markup(f'<div class="bar-cell">{count(row.step)} / {count(wanted)}{bar}</div>')
    created = Markup(f'<span title="{safe(clock(record.created_at))}">{safe(since(record.created_at))} ago</span>')
    return [
        title, status_mark(record.status), _waits(row), step, number(row.reward), number(row.ess),
        _workers(row, "rollout", record.rollout_workers), _workers(row, "reward", record.reward_workers), created,
    ]  # fmt: skip


def _waits(row: JobRow) -> str | Markup:
    record = row.record
    if record.error is not None:
        return Markup(f'<span title="{safe(record.error.message)}">{safe(record.error.code)}</span>')
    if record.waiting_for is None:
        first = WAITS_FOR[record.status]
        return NOTHING if record.status in ENDED or first is None else first.words
    text = f'{safe(record.waiting_for.what)} <span class="muted">{safe(since(record.waiting_for.since))}</span>'
    return Markup(text)


def _workers(row: JobRow, kind: str, wanted: int) -> str:
    return NOTHING if row.record.status in ENDED else f"{row.workers.get(kind, 0)} / {wanted}"

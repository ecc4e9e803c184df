"""Small pieces of HTML. Every text that comes in is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from services.store.job.transitions import Status

STATUS_LOOKS: dict[Status, str] = {
    Status.RUNNING: "live",
    Status.SUCCEEDED: "good",
    Status.FAILED: "bad",
    Status.PAUSING: "warn",
    Status.PAUSED: "warn",
}
STATE_LOOKS = {"ready": "good", "starting": "live", "syncing": "live", "draining": "warn", "failed": "bad"}
LEVEL_LOOKS = {"info": "", "warn": "warn", "error": "bad"}


class Markup(str):
    """HTML that is safe to put into a page as it is."""


def safe(value: object) -> Markup:
    """A text as HTML; what is HTML already stays."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def mark(text: str, look: str = "") -> Markup:
    """A short word in a coloured pill."""
    return Markup(f'<span class="mark {look}">{escape(text)}</span>')


def status_mark(status: Status) -> Markup:
    """The status of a job."""
    return mark(status.value.replace("_", " "), STATUS_LOOKS.get(status, ""))


def progress_bar(done: float, text: str) -> Markup:
    """How far something is, 0 to 1."""
    width = min(100.0, max(0.0, 100.0 * done))
    return Markup(f'<div class="progress" title="{escape(text)}"><i style="width: {width:.1f}%"></i></div>')


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), kind: str = ""
) -> Markup:
    """A table that scrolls sideways where it is too wide; columns in `numbers` are set right."""

    def cell(tag: str, column: int, value: object) -> str:
        return f'<{tag} class="{"n" if column in numbers else ""}">{safe(value)}</{tag}>'

    head = "".join(cell("th", column, name) for column, name in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(cell("td", column, value) for column, value in enumerate(row)) + "</tr>" for row in rows
    )
    return Markup(
        f'<div class="scroll"><table class="data {kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def empty(text: str) -> Markup:
    """A sentence where there is nothing to show."""
    return Markup(f'<div class="empty">{escape(text)}</div>')


def note(title: str, text: str, look: str = "") -> Markup:
    """A box with a heading."""
    return Markup(f'<div class="note-box {look}"><b>{escape(title)}</b>{escape(text)}</div>')

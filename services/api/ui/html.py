"""Small pieces of HTML. Every text that comes in is escaped, by markupsafe or by a template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jinja2 import Environment, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup as Markup
from markupsafe import escape

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

TEMPLATES = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_TABLE = TEMPLATES.from_string("""\
{% macro cell(tag, column, value) %}
<{{ tag }} class="{{ "n" if column in numbers }}">{{ value }}</{{ tag }}>{% endmacro %}
<div class="scroll"><table class="data {{ kind }}"><thead><tr>
{% for name in heads %}{{ cell("th", loop.index0, name) }}{% endfor %}
</tr></thead><tbody>
{% for row in rows %}
<tr>{% for value in row %}{{ cell("td", loop.index0, value) }}{% endfor %}</tr>
{% endfor %}
</tbody></table></div>""")

safe = escape
"""A text as HTML; what is HTML already stays."""


def script(value: object) -> str:
    """A value as a literal of JavaScript, also safe between the tags of a script."""
    return str(htmlsafe_json_dumps(value))


def mark(text: str, look: str = "") -> Markup:
    """A short word in a coloured pill."""
    return Markup('<span class="mark {}">{}</span>').format(look, text)


def status_mark(status: Status) -> Markup:
    """The status of a job."""
    return mark(status.value.replace("_", " "), STATUS_LOOKS.get(status, ""))


def progress_bar(done: float, text: str) -> Markup:
    """How far something is, 0 to 1."""
    width = min(100.0, max(0.0, 100.0 * done))
    return Markup('<div class="progress" title="{}"><i style="width: {:.1f}%"></i></div>').format(text, width)


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), kind: str = ""
) -> Markup:
    """A table that scrolls sideways where it is too wide; columns in `numbers` are set right."""
    return Markup(_TABLE.render(heads=heads, rows=rows, numbers=numbers, kind=kind))


def empty(text: str) -> Markup:
    """A sentence where there is nothing to show."""
    return Markup('<div class="empty">{}</div>').format(text)


def note(title: str, text: str, look: str = "") -> Markup:
    """A box with a heading."""
    return Markup('<div class="note-box {}"><b>{}</b>{}</div>').format(look, title, text)

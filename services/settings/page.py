"""`docs/settings.md`, written from the fields."""

from __future__ import annotations

from pathlib import Path

from pydantic.fields import FieldInfo

from services.settings.base import Settings
from services.settings.processes import ALL

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
HEAD = """# Settings

Written by `make docs` from `services/settings/processes.py`; don't edit it here. What a job can be told stands in the
job. Processes read these environment variables when they start; an empty one counts as unset. `sspo up` sets what its
own processes need, and passes on the rest.
"""


def document() -> str:
    """The page: a table for each class of settings, inherited fields only in the first of them."""
    return "\n".join([HEAD, *(_section(one) for one in ALL)])


def _section(settings: type[Settings]) -> str:
    own = [name for name in settings.model_fields if name in settings.__annotations__]
    rows = [_row(settings.variable(name), settings.model_fields[name]) for name in own]
    title = _line(settings.__doc__ or "").removesuffix(".")
    return "\n".join([f"## {title}\n", "| variable | unset | what it says |", "|---|---|---|", *rows, ""])


def _row(variable: str, field: FieldInfo) -> str:
    return f"| `{variable}` | {_unset(field)} | {_line(field.description or '')} |"


def _unset(field: FieldInfo) -> str:
    if field.is_required():
        return "an error"
    if field.default_factory is not None:
        return "see there"
    if field.default in (None, ""):
        return "–"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")

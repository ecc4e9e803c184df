"""Redis' answers as text: our client answers bytes, which its type hints leave open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def text(value: object) -> str:
    """One answer."""
    return value.decode() if isinstance(value, bytes) else str(value)


def texts(values: Iterable[object]) -> list[str]:
    """A list of answers."""
    return [text(value) for value in values]


def fields(stored: Mapping[Any, Any]) -> dict[str, str]:
    """A hash or the fields of a stream entry."""
    return {text(name): text(value) for name, value in stored.items()}


def finite(value: object) -> object:
    """The value with null for every float that JSON can't carry (NaN and the infinities)."""
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Mapping):
        return {str(name): finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def dump(value: object) -> str:
    """Strict JSON of a record of figures; see `finite`."""
    return json.dumps(finite(value), allow_nan=False, separators=(",", ":"))

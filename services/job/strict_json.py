"""JSON as RFC 8259 defines it; Python's own reader accepts more."""

from __future__ import annotations

import json
from typing import NoReturn

JsonObject = dict[str, object]
"""A JSON object that came from outside or goes there: who reads a value checks what it is."""


def as_object(value: object) -> JsonObject:
    """The value, which has to be an object. Raises TypeError for anything else."""
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, not {type(value).__name__}")
    return value


def parse(text: str) -> object:
    """The value. Raises ValueError or RecursionError, also for NaN, the infinities, and escaped lone surrogates.

    No UTF-8 text can carry a lone surrogate: a value that holds one could not be written again.
    """
    value: object = json.loads(text, parse_constant=_refuse_constant)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")

"""JSON as RFC 8259 defines it; Python's own reader accepts more."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse(text: str) -> Any:
    """The value. Raises ValueError or RecursionError, also for NaN, the infinities, and escaped lone surrogates.

    No UTF-8 text can carry a lone surrogate: a value that holds one could not be written again.
    """
    value = json.loads(text, parse_constant=_refuse_constant)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")

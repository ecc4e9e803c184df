"""The base of every record, and what all of them have in common.

Invariants: a record is written as compact JSON of the fields that were set, with null for a number that is not finite;
reading takes what older and newer versions wrote: unknown fields are passed over, missing ones have their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Something that was said once and does not change."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    def to_json(self) -> str:
        """One line of strict JSON: what was set, null for what is not finite."""
        return self.model_dump_json(exclude_unset=True)

    def plain(self) -> dict[str, Any]:
        """The same as JSON values, for an answer of the API."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values


def numbers(record: Record) -> Iterator[tuple[str, float | None]]:
    """The numbers (and nulls) of a record by dotted path, flags left out; lists and texts are no numbers."""
    yield from _numbers(record.plain(), "")


def _numbers(values: dict[str, Any], path: str) -> Iterator[tuple[str, float | None]]:
    for name, value in values.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            yield from _numbers(value, place)
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield place, value

"""The base of every record.

Invariants: a record is written as compact JSON of the fields that were set, with null for a number that is not finite;
reading takes what older and newer versions wrote: unknown fields are passed over, missing ones have their defaults.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Record(BaseModel):
    """Something that was said once and does not change."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    def to_json(self) -> str:
        """One line of strict JSON: what was set, null for what is not finite."""
        return self.model_dump_json(exclude_unset=True)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """What `to_json`, of this or another version, wrote. Raises ValueError."""
        try:
            return cls.model_validate_json(line)
        except ValidationError:  # null where a number was not finite, or where an older version knew nothing
            return cls.model_validate(_without_nulls(json.loads(line)))

    def plain(self) -> dict[str, Any]:
        """The same as JSON values, for an answer of the API."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values


def numbers(record: Record) -> Iterator[tuple[str, float | None]]:
    """The numbers (and nulls) that were set, by dotted path; flags, lists and texts are no numbers."""
    for name, value in record:
        if name in record.model_fields_set:
            yield from _numbers(value, name)


def _numbers(value: object, path: str) -> Iterator[tuple[str, float | None]]:
    if isinstance(value, Record):
        for name, figure in numbers(value):
            yield f"{path}.{name}", figure
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, f"{path}.{name}")
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield path, value if value is None or math.isfinite(value) else None


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [0.0 if part is None else _without_nulls(part) for part in value]
    return value

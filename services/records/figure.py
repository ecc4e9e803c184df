"""Figures of a step. A function reads each of them, so a renamed field is a type error everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from services.records.step import StepRecord

Figure = Callable[[StepRecord], float | None]
"""A plain attribute of a record, as in `lambda step: step.drift.kl_k3`."""


def path_of(figure: Callable[[StepRecord], object]) -> str:
    """The dotted path that a figure reads, as files and REST answers name it."""
    return str(figure(cast(StepRecord, _Path(""))))


class _Path:
    """Stands in for a record and remembers what is read of it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> _Path:
        return _Path(f"{self._path}.{name}" if self._path else name)

    def __str__(self) -> str:
        return self._path

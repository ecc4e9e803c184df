"""The findings of an explanation, and the inputs it has besides step records. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from services.job.spec import JobSpec
from services.records.step import StepRecord
from services.records.worker import WorkerRecord

Severity = Literal["info", "warn", "error"]
ORDER: dict[Severity, int] = {"error": 0, "warn": 1, "info": 2}
Evidence = Mapping[str, float | str | Sequence[str] | Mapping[str, int] | None]
"""Name → figure, words, names, or counts by name."""


@dataclass(frozen=True)
class Finding:
    """One thing that can be said of a job now."""

    name: str
    """The rule's, for programs: stays the same while words change."""
    title: str
    text: str
    """What it means and what to do about it."""
    severity: Severity
    evidence: Evidence = field(default_factory=dict)
    """The figures that it follows from."""


@dataclass(frozen=True)
class Surroundings:
    """The state of the job around its step records; a part that is not known is empty."""

    status: str = "running"
    waits_for: str = ""
    waited_seconds: float = 0.0
    policy_version: int = 0
    """Newest published."""
    in_streams: Mapping[str, int] = field(default_factory=dict)
    """Training stream → groups in it."""
    issued: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason → groups."""
    trained_tokens: int = 0
    wasted_tokens: Mapping[str, int] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    canary_failures: int = 0
    canary_quiet_seconds: float = 0.0
    """Since the last of them."""
    workers: Sequence[WorkerRecord] = ()


Rule = Callable[[JobSpec, Sequence[StepRecord], Surroundings], Finding | None]


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def weighted(pairs: Sequence[tuple[float, float | None]]) -> float | None:
    """Mean of (weight, value) over the known values; None without any."""
    known = [(weight, value) for weight, value in pairs if value is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if total else None


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"

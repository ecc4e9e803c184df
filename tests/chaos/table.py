"""What a run has done to the service, and what that did: for people, and as JSON."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.auditor import Finding
from tests.chaos.injector import Wound
from tests.chaos.plan import Action


@dataclass
class JobReport:
    """One job under chaos."""

    id: str
    status: str
    seconds: float
    wounds: list[Wound]
    finding: Finding
    policy_version: int


@dataclass
class RunReport:
    """A whole run. It passed when `violations` is empty."""

    seed: int
    seconds: float = 0.0
    jobs: list[JobReport] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def wounds(self) -> list[Wound]:
        return [wound for job in self.jobs for wound in job.wounds]

    @property
    def cuts(self) -> list[Wound]:
        return [wound for wound in self.wounds if wound.event.action is Action.CUT]

    def as_json(self) -> dict[str, Any]:
        """Plain values: figures by kind and point, one row a job, one row an event."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "events": len(self.wounds),
            "events_by_kind": dict(_by_kind(self.wounds)),
            "hits_by_point": dict(self.hits),
            "missed": dict(self.missed),
            "cuts": [{"lost_commits": wound.lost_commits, "note": wound.note} for wound in self.cuts],
            "recovery_seconds": {name: _quantiles(values) for name, values in _recoveries(self.wounds).items()},
            "jobs": [_job_row(job) for job in self.jobs],
            "lost": sum(job.finding.lost for job in self.jobs),
            "trained_twice": sum(job.finding.trained_twice for job in self.jobs),
            "violations": self.violations,
        }


def show(report: RunReport, console: Console) -> None:
    """Print the tables."""
    kinds = Table("kind", "kills", "stops", "at points", "cuts", "recovery median s", "p95 s", title="Events")
    recoveries = _recoveries(report.wounds)
    for kind, actions in sorted(_by_kind(report.wounds).items()):
        median, p95 = _quantiles(recoveries[kind]).values()
        numbers = [str(actions.get(action.value, 0)) for action in Action]
        kinds.add_row(kind, *numbers, f"{median:.1f}", f"{p95:.1f}")
    points = Table("fault point", "hits", title="Named points")
    for point, hits in sorted(report.hits.items()):
        points.add_row(point, str(hits))
    jobs = Table("job", "end", "events", "steps", "trained", "dropped", "lost", "twice", "version", "s", title="Jobs")
    for job in report.jobs:
        found = job.finding
        row = [len(job.wounds), found.steps, found.trained, found.dropped or "-", found.lost, found.trained_twice]
        jobs.add_row(job.id, job.status, *(str(value) for value in [*row, job.policy_version, round(job.seconds)]))
    for table in (kinds, points, jobs):
        console.print(table)
    deep = sum((wound.lost_commits or 0) >= 3 for wound in report.cuts)
    console.print(
        f"{len(report.wounds)} events over {len(report.jobs)} jobs in {report.seconds / 60:.1f} min, seed {report.seed}"
    )
    console.print(f"{len(report.cuts)} cuts of the append-only file, {deep} of them across three commits or more")
    for violation in report.violations:
        console.print(f"[red]violation:[/red] {violation}")


def _by_kind(wounds: Sequence[Wound]) -> dict[str, Counter[str]]:
    kinds: dict[str, Counter[str]] = {}
    for wound in wounds:
        kinds.setdefault(wound.event.victim.value, Counter())[wound.event.action.value] += 1
    return kinds


def _recoveries(wounds: Sequence[Wound]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for wound in wounds:
        known = times.setdefault(wound.event.victim.value, [])
        if wound.seconds is not None:
            known.append(wound.seconds)
    return times


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"median": 0.0, "p95": 0.0}
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[math.ceil(0.95 * len(ordered)) - 1], 2),
    }


def _job_row(job: JobReport) -> dict[str, Any]:
    events = [
        {
            "event": wound.event.name,
            "note": wound.note,
            "recovery_seconds": round(wound.seconds, 2) if wound.seconds else None,
        }
        for wound in job.wounds
    ]
    return {
        "id": job.id,
        "status": job.status,
        "seconds": round(job.seconds, 1),
        "policy_version": job.policy_version,
        "audit": asdict(job.finding),
        "events": events,
    }

"""Dashboards as data.

In expressions `@` stands for the job that is chosen at the top, `job_id=~"$job"`. A panel says what it shows, and where
that is not obvious what is normal and what to do. Panels fill rows from the left in the order in which they are named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

CHOSEN_JOB = 'job_id=~"$job"'
GREEN, AMBER, RED = "green", "orange", "red"
Limits = tuple[tuple[float, str], ...]
PanelKind = Literal["timeseries", "stat", "heatmap", "bargauge"]


@dataclass(frozen=True)
class Query:
    """One expression and the name of its lines."""

    expr: str
    legend: str = "{{job_id}}"

    @property
    def promql(self) -> str:
        return self.expr.replace("@", CHOSEN_JOB)


@dataclass(frozen=True)
class Panel:
    """One panel. `unit` is one of Grafana's; `limits` (value, colour) are drawn, `below` is the colour under them."""

    title: str
    queries: tuple[Query, ...]
    description: str
    kind: PanelKind = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    stacked: bool = False
    logarithmic: bool = False
    below: str = GREEN
    limits: Limits = ()
    repeat: str = ""
    """A variable: one panel for each of its values."""
    absent_without: str = ""
    """The hardware without which it is empty."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """What is chosen at the top: values of a label."""

    name: str
    label: str
    query: str
    several: bool = False
    newest_first: bool = False

    @property
    def promql(self) -> str:
        return self.query.replace("@", CHOSEN_JOB)


@dataclass(frozen=True)
class Annotation:
    """Vertical lines where a query has a value."""

    name: str
    expr: str
    colour: str
    title: str
    tags: str = "job_id"
    shown: bool = True

    @property
    def promql(self) -> str:
        return self.expr.replace("@", CHOSEN_JOB)


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; `uid` is also its file's name."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...] = field(default=())

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]

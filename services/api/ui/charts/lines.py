"""Curves over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.api.ui.charts.base import PER_CENT, Options, frame, tooltip, x_axis, y_axis
from services.api.ui.palette import Palette
from services.api.ui.thinning import Points


@dataclass(frozen=True)
class Line:
    """One curve. `of` stacks it upon the others of the same name; a `band` is filled and has no place in the legend."""

    name: str
    points: Points
    colour: str
    dashed: bool = False
    symbol: str | None = None
    of: str | None = None
    band: bool = False
    width: float = 1.8
    steps: bool = False


@dataclass(frozen=True)
class Mark:
    """A horizontal line that says where a figure should not go."""

    value: float
    text: str


def line_chart(
    palette: Palette,
    lines: Sequence[Line],
    y_name: str,
    *,
    log: bool = False,
    per_cent: bool = False,
    marks: Sequence[Mark] = (),
    low: float | None = None,
    high: float | None = None,
) -> Options | None:
    """A chart of curves; None when none of them has a point to show."""
    lines = [_positive(line) for line in lines] if log else list(lines)
    shown = [line for line in lines if any(point[1] is not None for point in line.points)]
    if not shown:
        return None
    options = frame(palette)
    options["legend"]["data"] = [
        {"name": line.name, "itemStyle": {"opacity": 1 if line.symbol else 0}} for line in shown if not line.band
    ]
    steps = [point[0] for line in shown for point in line.points if point[0] is not None]
    if log:
        low, high = _decades(shown)
    limits: Options = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
    if log:
        limits["splitNumber"] = max(1, round(math.log10(limits["max"] / limits["min"])))
    stacked = any(line.of and not line.band for line in shown)
    options |= {
        "xAxis": x_axis(palette, "step", min=min(steps), max=max(max(steps), min(steps) + 1), minInterval=1),
        "yAxis": y_axis(palette, y_name, log=log, per_cent=per_cent, **limits, **({"scale": False} if stacked else {})),
        "series": [_series(line, len(shown)) for line in shown],
    }
    if per_cent:
        options["tooltip"] = tooltip(palette, **{":valueFormatter": PER_CENT})
    if marks:
        options["series"][0]["markLine"] = _mark_line(palette, marks)
    return options


def _decades(lines: Sequence[Line]) -> tuple[float, float]:
    """The powers of ten around all points."""
    known = [point[1] for line in lines for point in line.points if point[1] is not None]
    return 10.0 ** math.floor(math.log10(min(known))), 10.0 ** math.ceil(math.log10(max(known) * 1.001))


def _positive(line: Line) -> Line:
    points = [[x, y if y is not None and y > 0 else None] for x, y in line.points]
    return Line(**{**line.__dict__, "points": points})


def _series(line: Line, lines: int) -> Options:
    alone = sum(point[1] is not None for point in line.points) < 3
    series: Options = {
        "name": line.name,
        "type": "line",
        "data": line.points,
        "showSymbol": bool(line.symbol) or alone,
        "symbol": line.symbol or "circle",
        "symbolSize": 7 if line.symbol else 5,
        "color": line.colour,
        "lineStyle": {"width": line.width, "type": "dashed" if line.dashed else "solid", "color": line.colour},
        "emphasis": {"disabled": True},
        "connectNulls": False,
        "z": 3,
    }
    if line.steps:
        series["step"] = "end"
    if line.of:
        series |= {"stack": line.of, "stackStrategy": "all", "areaStyle": {"opacity": 0.55}, "symbol": "none"}
    if line.band:
        series |= {"lineStyle": {"opacity": 0}, "symbol": "none", "silent": True, "z": 1, "tooltip": {"show": False}}
        series["areaStyle"] = {"opacity": 0.14 if line.width else 0, "color": line.colour}
    return series


def _mark_line(palette: Palette, marks: Sequence[Mark]) -> Options:
    return {
        "silent": True,
        "symbol": "none",
        "lineStyle": {"color": palette.muted, "type": "dotted", "width": 1.2},
        "label": {
            "color": palette.muted,
            "backgroundColor": palette.card,
            "padding": [1, 4],
            "fontSize": 11,
            "position": "insideEndTop",
            "formatter": "{b}",
        },
        "data": [{"yAxis": mark.value, "name": mark.text} for mark in marks],
    }

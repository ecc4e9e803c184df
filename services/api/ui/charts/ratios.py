"""Distributions of importance ratios: the newest step as bars, all steps as a heat map, and the gate over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.api.ui.charts.base import Options, frame, tooltip, x_axis, y_axis
from services.api.ui.html import script
from services.api.ui.palette import Palette
from services.api.ui.thinning import MOST_MEANS, stretches
from services.observability.metrics import RATIO_BUCKETS
from services.records.samples import GateCurve

LABELS = (
    f"≤ {RATIO_BUCKETS[0]:g}",
    *(f"{low:g}–{high:g}" for low, high in pairwise(RATIO_BUCKETS)),
    f"> {RATIO_BUCKETS[-1]:g}",
)
LOWEST, HIGHEST = 0.125, 8.0
"""The ends of the axis of ratios: outer buckets are open, the curve goes on."""
TALLEST = 4
"""Weight at which a curve leaves the chart: what matters lies around 1."""


def ratio_bars(palette: Palette, counts: NDArray[np.float64], unit: str) -> Options | None:
    """Shares of one histogram; None when it is empty."""
    total = float(counts.sum())
    if not total:
        return None
    data = [
        {"value": float(count) / total, "itemStyle": {"color": colour}, "tokens": int(count)}
        for count, colour in zip(counts, palette.ratios, strict=True)
    ]
    options = frame(palette, legend=False)
    options["grid"]["top"] = 30
    what = (
        "p => p[0].name + '<br><b>' + +(100*p[0].value).toPrecision(4) + ' %</b> · ' + p[0].data.tokens + "
        f"' ' + {script(unit)}"
    )
    options |= {
        "tooltip": tooltip(palette, axisPointer={"type": "shadow"}, **{":formatter": what}),
        "xAxis": x_axis(palette, "ratio policy / behaviour", type="category", data=list(LABELS)),
        "yAxis": y_axis(palette, f"share of {unit}", per_cent=True, min=0, scale=False),
        "series": [{"type": "bar", "data": data, "barCategoryGap": "12%", "emphasis": {"disabled": True}}],
    }
    options["xAxis"]["axisLabel"] |= {"hideOverlap": False, "interval": 0, "rotate": 40, "fontSize": 10.5}
    options["xAxis"]["nameGap"] = 46
    options["grid"]["bottom"] = 30
    return options


def heat_map(palette: Palette, steps: NDArray[np.int64], table: NDArray[np.float64], unit: str) -> Options | None:
    """Shares over steps, table of shape (steps, 13); neighbouring steps are merged where there are many."""
    if not table.sum():
        return None
    columns, merged = _merge(steps, table)
    totals = merged.sum(axis=1)
    cells = [
        [column, bucket, round(math.sqrt(share), 4), round(share, 6)]
        for column in range(len(columns))
        for bucket in range(merged.shape[1])
        if totals[column] and (share := float(merged[column, bucket] / totals[column])) > 0
    ]
    options = frame(palette, legend=False)
    what = (
        f"p => 'step ' + {script(columns)}[p.value[0]] + '<br>ratio ' + {script(LABELS)}[p.value[1]] + '<br><b>' "
        f"+ +(100*p.value[3]).toPrecision(3) + ' %</b> of ' + {script(unit)}"
    )
    options |= {
        "grid": {"left": 8, "right": 14, "top": 30, "bottom": 62, "containLabel": True},
        "tooltip": tooltip(palette, trigger="item", **{":formatter": what}),
        "xAxis": x_axis(palette, "step", type="category", data=columns),
        "yAxis": y_axis(palette, "ratio policy / behaviour", type="category", data=list(LABELS)),
        "visualMap": {
            "min": 0,
            "max": 1,
            "dimension": 2,
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "itemHeight": 130,
            "itemWidth": 11,
            "text": ["100 %", "0 %"],
            "textStyle": {"color": palette.muted, "fontSize": 11.5},
            "inRange": {"color": list(palette.heat)},
            "calculable": False,
            "hoverLink": False,
        },
        "series": [{"type": "heatmap", "data": cells, "emphasis": {"itemStyle": {"borderColor": palette.text}}}],
    }
    options["yAxis"]["axisLabel"] = {"color": palette.muted, "fontSize": 11, "interval": 0}
    options["yAxis"]["splitLine"] = {"show": False}
    return options


def _merge(steps: NDArray[np.int64], table: NDArray[np.float64]) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the columns and their sums."""
    if len(steps) <= MOST_MEANS:
        return [str(step) for step in steps], table
    starts = stretches(steps, MOST_MEANS)
    ends = np.append(starts[1:], len(steps))
    names = [f"{steps[start]}–{steps[end - 1]}" for start, end in zip(starts, ends, strict=True)]
    return names, np.add.reduceat(table, starts, axis=0)


def gate_chart(palette: Palette, gate: GateCurve, counts: NDArray[np.float64]) -> Options | None:
    """The gate's curve over the ratio, and under it where the tokens lie; both on one logarithmic axis."""
    curves = {"advantage > 0": gate.positive, "advantage < 0": gate.negative}
    if not gate.log_ratio or not any(curves.values()):
        return None
    options = frame(palette)
    options["legend"]["data"] = [{"name": name, "itemStyle": {"opacity": 0}} for name, curve in curves.items() if curve]
    top = min(TALLEST, math.ceil(max(*(max(curve, default=0.0) for curve in curves.values()), 1.0)))
    pointer = {"link": [{"xAxisIndex": "all"}]}
    axis = {"type": "log", "logBase": 2, "min": LOWEST, "max": HIGHEST}
    above = x_axis(palette, "", gridIndex=0, **axis)
    above["axisLabel"] = {"show": False}
    series = [_curve(palette, name, gate.log_ratio, curve) for name, curve in curves.items() if curve]
    options |= {
        "axisPointer": pointer,
        "grid": [
            {"left": 52, "right": 16, "top": 58, "height": "43%"},
            {"left": 52, "right": 16, "bottom": 44, "height": "19%"},
        ],
        "xAxis": [above, x_axis(palette, "ratio policy / behaviour", gridIndex=1, **axis)],
        "yAxis": [
            y_axis(palette, "weight of gradient (REINFORCE = 1)", gridIndex=0, min=0, max=top, scale=False),
            y_axis(palette, "share of tokens", per_cent=True, gridIndex=1, min=0, scale=False, splitNumber=2),
        ],
        "tooltip": tooltip(palette, **{":formatter": _GATE_TIP}),
        "series": [*series, *_token_areas(palette, counts)],
    }
    for vertical in options["yAxis"]:
        vertical["nameTextStyle"] |= {"padding": [0, 0, 0, -36]}
    options["series"][0]["markLine"] = {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"color": palette.muted, "type": "dotted"},
        "data": [{"yAxis": 1}],
    }
    return options


_GATE_TIP = (
    "ps => 'ratio ' + +ps[0].axisValue.toPrecision(3) + ps.map(p => '<br>' + p.marker + p.seriesName + ': <b>' + "
    "(p.axisIndex ? +(100 * p.value[1]).toPrecision(3) + ' %' : +p.value[1].toPrecision(4)) + '</b>').join('')"
)


def _curve(palette: Palette, name: str, log_ratios: Sequence[float], weights: Sequence[float]) -> Options:
    positive = name == "advantage > 0"
    colour = palette.blue if positive else palette.orange
    points = [
        [round(math.exp(z), 5), weight]
        for z, weight in zip(log_ratios, weights, strict=True)
        if LOWEST <= math.exp(z) <= HIGHEST
    ]
    return {
        "name": name,
        "type": "line",
        "data": points,
        "showSymbol": False,
        "color": colour,
        "lineStyle": {"width": 2.2, "type": "solid" if positive else "dashed"},
        "xAxisIndex": 0,
        "yAxisIndex": 0,
    }


def _token_areas(palette: Palette, counts: NDArray[np.float64]) -> list[Options]:
    """The histogram as steps: each bucket from its lower to its upper edge, as tall as its share."""
    total = float(counts.sum())
    edges = [LOWEST, *RATIO_BUCKETS, HIGHEST]
    shares = [float(count) / total if total else 0.0 for count in counts]
    points = [[edge, round(share, 6)] for edge, share in zip(edges, [*shares, shares[-1]], strict=True)]
    return [
        {
            "name": "tokens of the newest step",
            "type": "line",
            "step": "end",
            "data": points,
            "symbol": "none",
            "color": palette.green,
            "lineStyle": {"width": 1.2},
            "areaStyle": {"opacity": 0.35},
            "xAxisIndex": 1,
            "yAxisIndex": 1,
        }
    ]

"""Common parts of all charts: axes with their units, tooltips with exact numbers, quiet lines."""

from __future__ import annotations

from typing import Any

from services.api.ui.palette import Palette

Options = dict[str, Any]

FOUR_DIGITS = "v => v == null ? '–' : +Number(v).toPrecision(4)"
"""JavaScript: a number as a tooltip shows it."""
PER_CENT = "v => v == null ? '–' : +(100 * v).toPrecision(4) + ' %'"
SHORT = (
    "v => v === 0 ? '0' : Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3 "
    "? (+v).toExponential(0).replace('e+', 'e') : String(+(+v).toPrecision(3))"
)
"""JavaScript: a number at an axis."""
SHORT_PER_CENT = "v => +(100 * v).toPrecision(3) + ' %'"


def frame(palette: Palette, *, legend: bool = True) -> Options:
    """Options without axes and series."""
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "textStyle": {"fontFamily": "Roboto, system-ui, sans-serif", "color": palette.muted},
        "grid": {"left": 8, "right": 14, "top": 44, "bottom": 26, "containLabel": True},
        "legend": {
            "show": legend,
            "type": "scroll",
            "top": 0,
            "left": 0,
            "itemWidth": 24,
            "itemHeight": 9,
            "itemGap": 14,
            "textStyle": {"color": palette.muted, "fontSize": 12},
            "pageTextStyle": {"color": palette.muted},
            "pageIconColor": palette.muted,
            "pageIconInactiveColor": palette.grid,
        },
        "tooltip": tooltip(palette),
    }


def tooltip(palette: Palette, **changes: Any) -> Options:
    """A tooltip that stays inside the page."""
    return {
        "trigger": "axis",
        "confine": True,
        "backgroundColor": palette.card,
        "borderColor": palette.grid,
        "textStyle": {"color": palette.text, "fontSize": 12.5},
        "axisPointer": {
            "type": "line",
            "lineStyle": {"color": palette.muted, "type": "dashed"},
            "label": {"show": False},
        },
        ":valueFormatter": FOUR_DIGITS,
        **changes,
    }


def x_axis(palette: Palette, name: str, **changes: Any) -> Options:
    """The horizontal axis, its name below."""
    return {
        "type": "value",
        "name": name,
        "nameLocation": "middle",
        "nameGap": 26,
        "nameTextStyle": {"color": palette.muted, "fontSize": 12},
        "axisLabel": {"color": palette.muted, "fontSize": 11.5, "hideOverlap": True},
        "axisLine": {"show": True, "onZero": False, "lineStyle": {"color": palette.grid}},
        "axisTick": {"show": False},
        "splitLine": {"show": False},
        **changes,
    }


def y_axis(palette: Palette, name: str, *, log: bool = False, per_cent: bool = False, **changes: Any) -> Options:
    """The vertical axis, its name and unit above."""
    return {
        "type": "log" if log else "value",
        "name": name,
        "nameLocation": "end",
        "nameGap": 8,
        "nameTextStyle": {"color": palette.muted, "fontSize": 12, "align": "left"},
        "axisLabel": {"color": palette.muted, "fontSize": 11.5, ":formatter": SHORT_PER_CENT if per_cent else SHORT},
        "axisLine": {"show": False},
        "axisTick": {"show": False},
        "splitLine": {"lineStyle": {"color": palette.grid}},
        "splitNumber": 4,
        "scale": not log,
        **changes,
    }

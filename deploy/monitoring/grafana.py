"""The classic JSON that Grafana reads, from a dashboard's description."""

from __future__ import annotations

from deploy.monitoring.model import Annotation, Dashboard, Panel, PanelKind, Query, Row, Variable

DATASOURCE = {"type": "prometheus", "uid": "sspo-prometheus"}
COLUMNS = 24
SPAN_MILLISECONDS = 60_000
"""Gaps that lines go over: a worker that is loading weights is not ready for a moment."""
_LINKS = {
    "type": "dashboards",
    "title": "SSPO",
    "tags": ["sspo"],
    "asDropdown": True,
    "includeVars": True,
    "keepTime": True,
}


def document(board: Dashboard) -> dict[str, object]:
    """A dashboard as Grafana reads it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["sspo"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "links": [_LINKS],
        "annotations": {"list": [_annotation(one) for one in board.annotations]},
        "templating": {"list": [_variable(one) for one in board.variables]},
        "panels": _lay_out(board.rows),
    }


def _annotation(one: Annotation) -> dict[str, object]:
    return {
        "name": one.name,
        "datasource": DATASOURCE,
        "enable": one.shown,
        "hide": False,
        "iconColor": one.colour,
        "expr": one.promql,
        "step": "10s",
        "titleFormat": one.title,
        "textFormat": "{{job_id}}",
        "tagKeys": one.tags,
        "useValueForTime": False,
    }


def _variable(one: Variable) -> dict[str, object]:
    return {
        "name": one.name,
        "label": one.label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": one.promql,
        "query": {"query": one.promql, "refId": one.name},
        "refresh": 2,
        "sort": 2 if one.newest_first else 3,  # by letters downwards: ids of jobs begin with their time
        "multi": one.several,
        "includeAll": one.several,
        "current": {"text": ["All"], "value": ["$__all"]} if one.several else {},
    }


def _lay_out(rows: tuple[Row, ...]) -> list[dict[str, object]]:
    placed: list[dict[str, object]] = []
    top = 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append({"id": len(placed) + 1, "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}, **heading})
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            placed.append({"id": len(placed) + 1, "gridPos": place, **_panel(panel)})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return placed


def _panel(panel: Panel) -> dict[str, object]:
    found: dict[str, object] = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(panel.kind, query, index) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }
    if panel.repeat:
        found |= {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": COLUMNS // panel.width}
    return found


def _target(kind: PanelKind, query: Query, index: int) -> dict[str, object]:
    return {
        "refId": chr(ord("A") + index),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.promql,
        "legendFormat": query.legend,
        "format": "heatmap" if kind == "heatmap" else "time_series",
        "instant": kind == "bargauge",
        "range": kind != "bargauge",
    }


def _defaults(panel: Panel) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": panel.below, "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.limits]
    defaults: dict[str, object] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 0,
            "showPoints": "auto",
            "spanNulls": SPAN_MILLISECONDS,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "scaleDistribution": {"type": "log", "log": 10} if panel.logarithmic else {"type": "linear"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }
    if panel.kind == "bargauge":
        defaults["color"] = {"mode": "fixed", "fixedColor": "blue"}
    return defaults


_NEWEST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[PanelKind, dict[str, object]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _NEWEST, "colorMode": "value", "graphMode": "area", "textMode": "auto"},
    "bargauge": {"reduceOptions": _NEWEST, "displayMode": "basic", "orientation": "vertical", "showUnfilled": True},
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "reverse": False},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": "short"},
    },
}

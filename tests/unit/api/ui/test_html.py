"""Texts of jobs, models and workers are never markup; numbers read as people read them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from services.api.ui import words
from services.api.ui.charts.lines import Line, Mark, line_chart
from services.api.ui.charts.ratios import gate_chart, heat_map, ratio_bars
from services.api.ui.html import mark, note, progress_bar, safe, script, table
from services.api.ui.palette import DARK, LIGHT, Palette
from services.api.ui.panels.samples import group_html
from services.api.ui.series import BUCKETS
from services.records.samples import GateCurve, SampledGroup

EVIL = '<script>alert("1")</script>\''


def group(prompt: str, **changes: Any) -> SampledGroup:
    known = {"tokens": [EVIL, "", " \n"], "log_ratios": [0.0, -9.0, 99.0], "weights": [1.0, 0.0, 7.0]}
    row = {"reward": 1.0, "advantage": -0.5, "versions": [1, 2, 2], **known, **changes}
    return SampledGroup.model_validate({"step": 1, "group_number": 0, "prompt": prompt, "trajectories": [row]})


@pytest.mark.parametrize("colouring", ["ratio", "weight", "version"])
@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_samples_are_text(palette: Palette, colouring: Any) -> None:
    shown = group_html(palette, group(EVIL), colouring)
    assert "<script" not in shown and "alert(&#34;1&#34;)" in shown
    assert shown.count("data-tip") == 3


def test_a_group_of_an_objective_without_weights_or_tokens() -> None:
    empty = {key: [] for key in ("tokens", "log_ratios", "weights", "versions")}
    shown = group_html(LIGHT, group("", **empty), "version")
    assert "0 tokens" in shown


def test_pieces_escape_what_they_get() -> None:
    for shown in (mark(EVIL), note(EVIL, EVIL), table([EVIL], [[EVIL]]), safe(EVIL), progress_bar(1, EVIL)):
        assert "<script" not in shown
    assert table(["a"], [[mark("ready", "good")]]).count("<span") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.12345, "0.123"),
        (1234.5, "1,234"),
        (1e-5, "1e-5"),
        (2.54e-7, "2.54e-7"),
        (12.0, "12"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.02, "20 ms"), (3.21, "3.2 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_000, "1 d 1 h")]
)
def test_durations(value: float, text: str) -> None:
    assert words.seconds(value) == text


def test_a_label_with_quotes_stays_one_literal_of_a_script() -> None:
    for text in ("it's", 'a "b"', "\\", "</script>", "\u2028"):
        literal = script([text])
        assert json.loads(literal) == [text]
        assert not set(literal) & set("<>'\u2028"), "it ends neither a script, nor an attribute, nor a line"
    bars = ratio_bars(LIGHT, np.ones(BUCKETS), EVIL)
    heat = heat_map(LIGHT, np.arange(2), np.ones((2, BUCKETS)), EVIL)
    assert bars and heat
    for chart in (bars, heat):
        assert script(EVIL) in chart["tooltip"][":formatter"] and EVIL not in chart["tooltip"][":formatter"]


def test_charts_are_none_without_figures_and_plain_json_with_them() -> None:
    assert line_chart(LIGHT, [Line("a", [[1, None]], "#000000")], "y") is None
    assert line_chart(LIGHT, [Line("a", [[1, 0.0]], "#000000")], "y", log=True) is None, "no logarithm of 0"
    assert ratio_bars(LIGHT, np.zeros(BUCKETS), "tokens") is None
    assert heat_map(LIGHT, np.array([1]), np.zeros((1, BUCKETS)), "tokens") is None
    assert gate_chart(LIGHT, GateCurve(objective="sspo", log_ratio=(0.0,)), np.ones(BUCKETS)) is None
    shown = [
        line_chart(DARK, [Line("a", [[1, 0.5]], "#000000")], "y", marks=[Mark(1, "limit")]),
        ratio_bars(DARK, np.ones(BUCKETS), "tokens"),
        heat_map(DARK, np.arange(5000), np.ones((5000, BUCKETS)), "tokens"),
        gate_chart(DARK, GateCurve(objective="sspo", log_ratio=(-1.0, 0.0), positive=(0.5, 1.0)), np.ones(BUCKETS)),
    ]
    assert all(shown)
    json.dumps(shown, allow_nan=False)
    columns = shown[2]["xAxis"]["data"]  # type: ignore[index]
    assert len(columns) <= 200 and columns[0] == "0–31"

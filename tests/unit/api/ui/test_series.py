"""Columns of step records: what they hold after anything, and what stays of curves that are thinned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.api.ui.series import BUCKETS, Series
from services.api.ui.thinning import MOST_POINTS, thin
from services.records.step import StepRecord


def record(step: int, by_staleness: tuple[int, ...] = (0,), **changes: Any) -> StepRecord:
    counts = [float(step)] + [0.0] * (BUCKETS - 1)
    histograms = {"ratio_histogram": counts, "sequence_ratio_histogram": counts}
    said = {"step": step, "time": 100.0 + step, "reward_mean": step / 10}
    drift = {"ess_token": 0.5, "histograms": histograms, "by_staleness": dict.fromkeys(by_staleness, histograms)}
    return StepRecord.model_validate({**said, "drift": drift, **changes})


def filled(steps: range) -> Series:
    series = Series()
    for step in steps:
        series.add(record(step))
    return series


def test_figures_are_read_of_a_record_and_gaps_are_nan() -> None:
    series = Series()
    series.add(record(3))
    series.add(StepRecord(step=4, reward_mean=None))
    assert series.steps().tolist() == [3, 4]
    assert series.points("ess_token") == [[3, 0.5], [4, None]]
    assert (series.newest("reward"), series.last_step) == (None, 4)
    assert math.isnan(series.last_time)


def test_a_step_trained_again_undoes_what_followed() -> None:
    series = filled(range(10))
    series.add(record(4, reward_mean=9.0))
    assert series.steps().tolist() == [0, 1, 2, 3, 4]
    assert series.column("reward")[-1] == 9.0
    assert series.histogram("token", "0").shape == (5, BUCKETS)
    assert series.histogram("token")[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_staleness_that_comes_late_has_zeros_before_and_after() -> None:
    series = filled(range(3))
    series.add(record(3, by_staleness=(11, 9)))
    series.add(record(4))
    assert series.staleness == ["0", "8"]
    assert series.histogram("sequence", "8")[:, 0].tolist() == [0, 0, 0, 6, 0]
    assert series.histogram("sequence", "0")[:, 0].tolist() == [0, 1, 2, 0, 4]


def test_a_copy_is_not_changed_by_what_comes_later() -> None:
    series = filled(range(4))
    twin = series.copy()
    twin.add(record(4))
    twin.cut(2)
    assert (len(series), len(twin)) == (4, 2)
    assert series.histogram("token")[:, 0].tolist() == [0, 1, 2, 3]


def test_the_newest_steps_alone() -> None:
    series = filled(range(10))
    assert series.points("reward", 2) == [[8, 0.8], [9, 0.9]]
    assert series.histogram("token", "all", 1)[:, 0].tolist() == [9]


@given(st.lists(st.floats(-1e6, 1e6, width=32) | st.just(math.nan), min_size=1, max_size=3000))
def test_thinned_curves_keep_their_extremes_and_their_end(values: list[float]) -> None:
    column = np.array(values)
    points = thin(np.arange(len(values)), column)
    assert len(points) <= MOST_POINTS + 2
    assert [point[0] for point in points] == sorted({point[0] for point in points})
    assert points[-1][0] == len(values) - 1
    shown = [value for _, value in points if value is not None]
    known = column[np.isfinite(column)]
    if len(known):
        assert np.isclose(max(shown), known.max(), rtol=1e-4) and np.isclose(min(shown), known.min(), rtol=1e-4)
    else:
        assert not shown


def test_points_of_the_past_do_not_move_as_steps_are_added() -> None:
    values = np.sin(np.arange(3000))
    before = thin(np.arange(2900), values[:2900])
    after = thin(np.arange(2999), values[:2999])
    assert after[: len(before) - 3] == before[:-3]

"""Curves of many steps as few points. A point stands for a stretch of steps and shows its extremes or its mean.

A stretch is a power of two long and begins at a multiple of it, so that the points of the past don't move as steps are
added.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 400
"""Of a curve on a screen."""
MOST_MEANS = 200
"""Of a stacked curve, and columns of a heat map."""

Points = list[list[float | None]]
"""[step, value] each; None is a gap."""


def stretches(steps: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The rows at which stretches begin, `most` of them at most (or one more); each row where there are few."""
    length = 1
    while len(steps) / length > most:
        length *= 2
    return np.concatenate([np.zeros(min(1, len(steps)), np.int64), np.flatnonzero(np.diff(steps // length)) + 1])


def thin(steps: NDArray[np.int64], values: NDArray[np.float64], most: int = MOST_POINTS) -> Points:
    """About `most` points at most: the smallest and the largest value of each stretch, so that peaks stay as they are.

    A value that is not finite is None.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    if len(steps) <= most:
        return [[int(step), _rounded(value)] for step, value in zip(steps, finite, strict=True)]
    chosen: list[int] = []
    for stretch in np.split(np.arange(len(steps)), stretches(steps, most // 2)[1:]):
        part = finite[stretch]
        if np.isnan(part).all():
            chosen.append(int(stretch[0]))
        else:
            ends = {int(stretch[np.nanargmin(part)]), int(stretch[np.nanargmax(part)])}
            chosen.extend(sorted(ends))
    if chosen and chosen[-1] != len(steps) - 1:
        chosen.append(len(steps) - 1)
    return [[int(steps[row]), _rounded(finite[row])] for row in chosen]


def means(steps: NDArray[np.int64], values: NDArray[np.float64]) -> Points:
    """Means of stretches: stacked curves need the same steps each, which extremes are not."""
    if not len(steps):
        return []
    starts = stretches(steps, MOST_MEANS)
    counts = np.diff(np.append(starts, len(steps)))
    found = np.add.reduceat(values, starts) / counts
    return [[int(steps[row]), float(f"{mean:.4g}")] for row, mean in zip(starts, found, strict=True)]


def _rounded(value: float) -> float | None:
    """Five digits: what a screen can show, in fewer bytes."""
    return None if math.isnan(value) else float(f"{value:.5g}")

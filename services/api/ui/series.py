"""The step records of one job as columns of numbers: what charts need of them, however long the job.

Invariants: rows are ascending by step; a record undoes those of its step and later ones, as in the store (a lineage
that was rolled back is never shown); what a record doesn't say is NaN. A row costs about 2 kB, a record ten times that.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from services.observability.metrics import MAX_STALENESS_LABEL, RATIO_BUCKETS, look_up

Ratios = Literal["token", "sequence"]
HISTOGRAMS: dict[Ratios, str] = {"token": "ratio_histogram", "sequence": "sequence_ratio_histogram"}
BUCKETS = len(RATIO_BUCKETS) + 1
ALL = "all"
MOST_POINTS = 400
"""Of a curve on a screen."""

FIGURES = {
    "time": "time",
    "reward": "reward_mean",
    "reward_std": "reward_std",
    "flat_groups": "reward_zero_variance_groups_ratio",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "tokens": "tokens",
    "completion_tokens": "completion_tokens_mean",
    "staleness_mean": "staleness_mean",
    "staleness_max": "staleness_max",
    "seconds": "seconds",
    "wait_batch": "waits.batch",
    "wait_staleness": "waits.staleness",
    "wait_publish": "waits.publish",
    "wait_checkpoint": "waits.checkpoint",
    "ess_token": "drift.ess_token",
    "ess_sequence": "drift.ess_sequence",
    "kl_k3": "drift.kl_k3",
    "mismatch": "drift.mismatch_kl_k3",
    "drift_share": "drift.drift_share",
    "outside_band": "drift.outside_band_ratio",
    "mismatch_outside_band": "drift.mismatch.outside_band_ratio",
    "log_ratio_p99": "drift.log_ratio_abs_p99",
    "log_ratio_max": "drift.log_ratio_abs_max",
    "weight_positive": "drift.gate_weight_mean_positive",
    "weight_negative": "drift.gate_weight_mean_negative",
    "saturated": "drift.gate_saturated_ratio",
    "clipped": "drift.clip_fraction",
    "entropy": "drift.entropy_mean",
    "guard_level": "guard.level",
    "policy_version": "policy_version",
}
"""Column → dotted path in a step record."""

Points = list[list[float | None]]


class Series:
    """The columns. Whoever shows them gets a copy that nobody adds to: the same object holds the same steps."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._columns = {name: array("d") for name in FIGURES}
        self._histograms: dict[tuple[Ratios, str], array[float]] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def copy(self) -> Series:
        """The same rows, to be added to."""
        twin = Series()
        twin._rows, twin._steps = self._rows, self._steps[:]
        twin._columns = {name: column[:] for name, column in self._columns.items()}
        twin._histograms = {key: counts[:] for key, counts in self._histograms.items()}
        return twin

    @property
    def last_step(self) -> int:
        """-1 before the first."""
        return self._steps[self._rows - 1] if self._rows else -1

    @property
    def last_time(self) -> float:
        return self._columns["time"][self._rows - 1] if self._rows else math.nan

    @property
    def staleness(self) -> list[str]:
        """The staleness for which there are histograms, ascending."""
        return sorted({at for _, at in self._histograms if at != ALL}, key=int)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a step's record."""
        self.cut(int(record["step"]))
        for name, path in FIGURES.items():
            value = look_up(record, path)
            self._columns[name].append(float(value) if isinstance(value, int | float) else math.nan)
        drift = record.get("drift") or {}
        self._add_histograms(ALL, drift.get("histograms") or {})
        for staleness, histograms in (drift.get("by_staleness") or {}).items():
            self._add_histograms(str(min(int(staleness), MAX_STALENESS_LABEL)), histograms)
        self._steps.append(int(record["step"]))
        self._rows += 1
        for counts in self._histograms.values():
            counts.extend([0.0] * (self._rows * BUCKETS - len(counts)))

    def cut(self, step: int) -> None:
        """Forget `step` and what follows."""
        while self._rows and self._steps[self._rows - 1] >= step:
            self._rows -= 1
            self._steps.pop()
            for column in self._columns.values():
                column.pop()
            for counts in self._histograms.values():
                del counts[self._rows * BUCKETS :]

    def _add_histograms(self, staleness: str, histograms: Mapping[str, Any]) -> None:
        for kind, name in HISTOGRAMS.items():
            counts = histograms.get(name)
            if counts is None:
                continue
            stored = self._histograms.setdefault((kind, staleness), array("f"))
            stored.extend([0.0] * (self._rows * BUCKETS - len(stored)))
            if len(stored) > self._rows * BUCKETS:  # several staleness values share the last label
                for bucket, count in enumerate(counts):
                    stored[self._rows * BUCKETS + bucket] += count
            else:
                stored.extend(counts)

    def steps(self, last: int | None = None) -> NDArray[np.int64]:
        """Steps of the newest `last` rows."""
        return np.array(self._steps[: self._rows], dtype=np.int64)[-last if last else 0 :]

    def column(self, name: str, last: int | None = None) -> NDArray[np.float64]:
        """One figure of the newest `last` rows."""
        return np.array(self._columns[name][: self._rows], dtype=np.float64)[-last if last else 0 :]

    def newest(self, name: str) -> float | None:
        """The figure of the newest step; None where there is none."""
        value = self._columns[name][self._rows - 1] if self._rows else math.nan
        return None if math.isnan(value) else value

    def histogram(self, kind: Ratios, staleness: str = ALL, last: int | None = None) -> NDArray[np.float64]:
        """Counts by ratio bucket, shape (rows, 13); zeros where a step has none of this staleness."""
        stored = self._histograms.get((kind, staleness), array("f"))
        table = np.zeros((self._rows, BUCKETS))
        flat = np.array(stored[: self._rows * BUCKETS], dtype=np.float64)
        table.reshape(-1)[: len(flat)] = flat
        return table[-last if last else 0 :]

    def points(self, name: str, last: int | None = None) -> Points:
        """A figure over steps, thinned for a screen."""
        return thin(self.steps(last), self.column(name, last))


def thin(steps: NDArray[np.int64], values: NDArray[np.float64], most: int = MOST_POINTS) -> Points:
    """[step, value] of at most about `most` points: of each stretch of steps its smallest and its largest value.

    Peaks stay where they are. A stretch is a power of two long and begins at a multiple of it, so that the points of
    the past don't move as steps are added. A value that is not finite is None: a gap.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    length = 1
    while len(steps) / length * 2 > most and len(steps) > most:
        length *= 2
    if length == 1:
        return [[int(step), _rounded(value)] for step, value in zip(steps, finite, strict=True)]
    chosen: list[int] = []
    edges = np.flatnonzero(np.diff(steps // length)) + 1
    for stretch in np.split(np.arange(len(steps)), edges):
        part = finite[stretch]
        if np.isnan(part).all():
            chosen.append(int(stretch[0]))
        else:
            ends = {int(stretch[np.nanargmin(part)]), int(stretch[np.nanargmax(part)])}
            chosen.extend(sorted(ends))
    if chosen and chosen[-1] != len(steps) - 1:
        chosen.append(len(steps) - 1)
    return [[int(steps[row]), _rounded(finite[row])] for row in chosen]


def _rounded(value: float) -> float | None:
    """Five digits: what a screen can show, in fewer bytes."""
    return None if math.isnan(value) else float(f"{value:.5g}")

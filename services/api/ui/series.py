"""The step records of one job as columns of numbers, small enough for the charts of a long job.

Invariants: rows are ascending by step; a record undoes those of its step and later ones, as in the store (a lineage
that was rolled back is never shown); a figure that a record lacks is NaN. A row costs about 2 kB, a record ten times
that.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from services.api.ui.thinning import Points, thin
from services.observability.metrics import MAX_STALENESS_LABEL, RATIO_BUCKETS
from services.records.figure import Figure
from services.records.ratios import RatioDistribution, RatioHistograms
from services.records.step import StepRecord

Ratios = Literal["token", "sequence"]
BUCKETS = len(RATIO_BUCKETS) + 1
ALL = "all"

Column = Literal[
    "time",
    "reward",
    "reward_std",
    "flat_groups",
    "loss",
    "grad_norm",
    "learning_rate",
    "tokens",
    "completion_tokens",
    "staleness_mean",
    "staleness_max",
    "seconds",
    "wait_batch",
    "wait_staleness",
    "wait_publish",
    "wait_checkpoint",
    "ess_token",
    "ess_sequence",
    "kl_k3",
    "mismatch",
    "drift_share",
    "outside_band",
    "mismatch_outside_band",
    "log_ratio_p99",
    "log_ratio_max",
    "weight_positive",
    "weight_negative",
    "saturated",
    "clipped",
    "entropy",
    "guard_level",
    "policy_version",
]
FIGURES: dict[Column, Figure] = {
    "time": lambda s: s.time,
    "reward": lambda s: s.reward_mean,
    "reward_std": lambda s: s.reward_std,
    "flat_groups": lambda s: s.reward_zero_variance_groups_ratio,
    "loss": lambda s: s.loss,
    "grad_norm": lambda s: s.grad_norm,
    "learning_rate": lambda s: s.learning_rate,
    "tokens": lambda s: s.tokens,
    "completion_tokens": lambda s: s.completion_tokens_mean,
    "staleness_mean": lambda s: s.staleness_mean,
    "staleness_max": lambda s: s.staleness_max,
    "seconds": lambda s: s.seconds,
    "wait_batch": lambda s: s.waits.batch,
    "wait_staleness": lambda s: s.waits.staleness,
    "wait_publish": lambda s: s.waits.publish,
    "wait_checkpoint": lambda s: s.waits.checkpoint,
    "ess_token": lambda s: s.drift.ess_token,
    "ess_sequence": lambda s: s.drift.ess_sequence,
    "kl_k3": lambda s: s.drift.kl_k3,
    "mismatch": lambda s: s.drift.mismatch_kl_k3,
    "drift_share": lambda s: s.drift.drift_share,
    "outside_band": lambda s: s.drift.outside_band_ratio,
    "mismatch_outside_band": lambda s: s.drift.mismatch.outside_band_ratio if s.drift.mismatch else None,
    "log_ratio_p99": lambda s: s.drift.log_ratio_abs_p99,
    "log_ratio_max": lambda s: s.drift.log_ratio_abs_max,
    "weight_positive": lambda s: s.drift.gate_weight_mean_positive,
    "weight_negative": lambda s: s.drift.gate_weight_mean_negative,
    "saturated": lambda s: s.drift.gate_saturated_ratio,
    "clipped": lambda s: s.drift.clip_fraction,
    "entropy": lambda s: s.drift.entropy_mean,
    "guard_level": lambda s: s.guard.level,
    "policy_version": lambda s: s.policy_version,
}
"""What each column takes from a step record."""


class Series:
    """The columns. Nobody adds to a copy that a page got, so one object always holds the same steps."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._columns: dict[Column, array[float]] = {name: array("d") for name in FIGURES}
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

    def add(self, record: StepRecord) -> None:
        """Take a step's record."""
        self.cut(record.step)
        for name, figure in FIGURES.items():
            value = figure(record)
            self._columns[name].append(math.nan if value is None else value)
        self._add_histograms(ALL, record.drift.histograms)
        for staleness, histograms in record.drift.by_staleness.items():
            self._add_histograms(str(min(staleness, MAX_STALENESS_LABEL)), histograms)
        self._steps.append(record.step)
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

    def _add_histograms(self, staleness: str, histograms: RatioHistograms | RatioDistribution) -> None:
        by_kind: dict[Ratios, Sequence[float]] = {
            "token": histograms.ratio_histogram,
            "sequence": histograms.sequence_ratio_histogram,
        }
        for kind, counts in by_kind.items():
            if not counts:
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

    def column(self, name: Column, last: int | None = None) -> NDArray[np.float64]:
        """One figure of the newest `last` rows."""
        return np.array(self._columns[name][: self._rows], dtype=np.float64)[-last if last else 0 :]

    def newest(self, name: Column) -> float | None:
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

    def points(self, name: Column, last: int | None = None) -> Points:
        """A figure over steps, thinned for a screen."""
        return thin(self.steps(last), self.column(name, last))

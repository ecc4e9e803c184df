"""The distance between policy and samples in one step, and the engine's part of it.

Engine mismatch is the difference on tokens that are recomputed under the very weights that sampled them; without such
tokens it is None, not 0. The rest is drift: drift share = 1 − k3(mismatch) / k3(total), within 0..1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from services.records.ratios import RatioDistribution, RatioFigures, RatioHistograms
from services.records.record import Record

MismatchSource = Literal["bucket", "probe"]


class Mismatch(Record):
    """The engine mismatch: tokens recomputed under the very weights that sampled them."""

    source: MismatchSource | None = None
    """Tokens of the step itself (bucket 0/0), or a group that was recomputed for it."""
    step: int | None = None
    """The step it was measured in."""
    tokens: float | None = None
    """Tokens it was measured on."""
    kl_k1: float | None = None
    """k1 of these tokens."""
    kl_k3: float | None = None
    """k3 of these tokens."""
    log_ratio_abs_p99: float | None = None
    """Absolute difference of log-probs, 99th percentile."""
    log_ratio_abs_max: float | None = None
    """The same, largest."""
    outside_band_ratio: float | None = None
    """Share of these tokens with a ratio outside 0.9 to 1.1."""
    ratio_mean: float | None = None
    """Token ratio, mean."""
    ratio_std: float | None = None
    """Token ratio, standard deviation."""
    ratio_max: float | None = None
    """Token ratio, largest."""
    ess_token: float | None = None
    """Effective sample size of these tokens' ratios."""
    ess_sequence: float | None = None
    """The same of their sequences."""
    surprise_excess: float | None = None
    """Surprise beyond the policy's entropy, nats a token."""
    surprise_excess_error: float | None = None
    """Its standard error."""
    surprise_slope: float | None = None
    """Slope of the log ratio over that excess."""
    surprise_correlation: float | None = None
    """Their correlation."""

    @classmethod
    def of(cls, figures: RatioFigures, source: MismatchSource, step: int | None = None) -> Mismatch:
        """From the figures of the tokens that were recomputed."""
        names = cls.model_fields.keys() & RatioFigures.model_fields.keys()
        found = cls(source=source, **{name: getattr(figures, name) for name in sorted(names)})
        return found if step is None else found.model_copy(update={"step": step})


class DriftFigures(RatioFigures):
    """All of a step's ratios, by bucket too, and how they divide into mismatch and drift."""

    histograms: RatioHistograms = RatioHistograms()
    """Of all tokens and sequences."""
    buckets: dict[str, RatioFigures] = Field(default_factory=dict)
    """By "STALENESS/UPDATE": staleness in steps, update within the step."""
    by_staleness: dict[int, RatioDistribution] = Field(default_factory=dict)
    """Histograms by staleness in steps, all updates together."""
    mismatch: Mismatch | None = None
    """The engine mismatch that is known: this step's, or the newest one that was measured."""
    mismatch_kl_k3: float | None = None
    """Its k3."""
    mismatch_log_ratio_abs_max: float | None = None
    """Its largest difference of log-probs."""
    drift_share: float | None = None
    """Share of k3 that is drift and not mismatch."""

    def bucket(self, staleness: int, update: int) -> RatioFigures | None:
        """One bucket; None where nothing fell into it."""
        return self.buckets.get(f"{staleness}/{update}")

    def by_bucket(self) -> Iterator[tuple[int, int, RatioFigures]]:
        """(staleness, update, figures) of each bucket."""
        for name, figures in self.buckets.items():
            staleness, update = name.split("/")
            yield int(staleness), int(update), figures

    def with_mismatch(self, mismatch: Mismatch | None) -> DriftFigures:
        """The same with the engine mismatch that is known."""
        apart = mismatch.kl_k3 if mismatch else None
        share = None
        if apart is not None and self.kl_k3:
            share = min(1.0, max(0.0, 1.0 - apart / self.kl_k3))
        return self.model_copy(
            update={
                "mismatch": mismatch,
                "mismatch_kl_k3": apart,
                "mismatch_log_ratio_abs_max": mismatch.log_ratio_abs_max if mismatch else None,
                "drift_share": share,
            }
        )

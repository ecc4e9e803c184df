"""The importance ratios of a step: figures of all tokens, and by bucket (staleness in steps, update in the step).

Engine mismatch is the difference on bucket (0, 0): these tokens are recomputed under the very weights that sampled
them. Without such tokens it is None, not 0.
"""

from __future__ import annotations

from services.records.drift import DriftFigures, Mismatch
from services.records.ratios import RatioDistribution, RatioFigures, RatioHistograms
from sspo_core import LossOutputs, RatioDiagnostics

ON_POLICY = (0, 0)


class DriftTable:
    """Collects one step's ratios; nothing waits for the device before `figures`."""

    def __init__(self) -> None:
        self._total = RatioDiagnostics()
        self._buckets: dict[tuple[int, int], RatioDiagnostics] = {}

    def add(self, outputs: LossOutputs, *, update: int) -> None:
        """Count one micro-batch of an update, whose loss was asked for buckets by staleness."""
        self._total.merge(RatioDiagnostics(outputs.metrics))
        for staleness, metrics in outputs.buckets.items():
            self._buckets.setdefault((staleness, update), RatioDiagnostics()).merge(RatioDiagnostics(metrics))

    def figures(self) -> DriftFigures:
        """All tokens, histograms, buckets, and the mismatch that the step itself shows."""
        buckets = {bucket: RatioFigures(**found.figures()) for bucket, found in sorted(self._buckets.items())}
        figures = DriftFigures(
            **self._total.figures(),
            histograms=RatioHistograms(**{name: tuple(bins) for name, bins in self._total.histograms().items()}),
            buckets={f"{staleness}/{update}": found for (staleness, update), found in buckets.items()},
            by_staleness=self._by_staleness(),
        )
        at_once = buckets.get(ON_POLICY)
        measured = at_once is not None and bool(at_once.tokens)
        return figures.with_mismatch(Mismatch.of(at_once, "bucket") if at_once is not None and measured else None)

    def _by_staleness(self) -> dict[int, RatioDistribution]:
        """Histograms and sums of ratios by staleness, all updates together."""
        merged: dict[int, RatioDiagnostics] = {}
        for (staleness, _), diagnostics in self._buckets.items():
            merged.setdefault(staleness, RatioDiagnostics()).merge(diagnostics)
        return {staleness: _distribution(merged[staleness]) for staleness in sorted(merged)}


def _distribution(diagnostics: RatioDiagnostics) -> RatioDistribution:
    if diagnostics.state is None:
        return RatioDistribution()
    sums, histograms = diagnostics.state.read()
    return RatioDistribution(
        ratio_histogram=tuple(histograms["ratio_histogram"]),
        sequence_ratio_histogram=tuple(histograms["sequence_ratio_histogram"]),
        ratio_sum=sums["tokens"] + sums["ratio_excess"],
        sequence_ratio_sum=sums["sequences"] + sums["sequence_excess"],
    )

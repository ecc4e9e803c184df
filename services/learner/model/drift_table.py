"""What a step says of its importance ratios: all tokens, and by bucket (staleness in steps, update in the step).

Engine mismatch is what differs where nothing was trained in between: bucket (0, 0), tokens recomputed under the very
weights that sampled them, or a group that `mismatch` recomputes so. Where there is neither it is None, never 0. What
is left is drift: drift share = 1 − k3(mismatch) / k3(total), within 0..1.
"""

from __future__ import annotations

from typing import Any, Literal

from sspo_core import LossOutputs, RatioDiagnostics

Source = Literal["bucket", "probe"]
MISMATCH_FIGURES = (
    "tokens",
    "kl_k1",
    "kl_k3",
    "log_ratio_abs_p99",
    "log_ratio_abs_max",
    "outside_band_ratio",
    "ratio_mean",
    "ratio_std",
    "ratio_max",
    "ess_token",
    "ess_sequence",
    "surprise_excess",
    "surprise_excess_error",
    "surprise_slope",
    "surprise_correlation",
)
BY_STALENESS = ("ratio_histogram", "sequence_ratio_histogram")


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

    def figures(self) -> dict[str, Any]:
        """Plain numbers: the figures of `RatioDiagnostics`, histograms, buckets, mismatch and drift share."""
        buckets = {f"{staleness}/{update}": d.figures() for (staleness, update), d in sorted(self._buckets.items())}
        figures = {
            **self._total.figures(),
            "histograms": self._total.histograms(),
            "buckets": buckets,
            "by_staleness": self._by_staleness(),
        }
        at_once = buckets.get("0/0", {})
        return with_mismatch(figures, mismatch_of(at_once, "bucket") if at_once.get("tokens") else None)

    def _by_staleness(self) -> dict[str, dict[str, Any]]:
        """Histograms and sums of ratios by staleness, all updates together."""
        merged: dict[int, RatioDiagnostics] = {}
        for (staleness, _), diagnostics in self._buckets.items():
            merged.setdefault(staleness, RatioDiagnostics()).merge(diagnostics)
        return {str(staleness): _distribution(merged[staleness]) for staleness in sorted(merged)}


def mismatch_of(figures: dict[str, float], source: Source) -> dict[str, Any]:
    """The figures of tokens that were recomputed under their own weights, and how these came about."""
    return {name: figures.get(name) for name in MISMATCH_FIGURES} | {"source": source}


def with_mismatch(drift: dict[str, Any], mismatch: dict[str, Any] | None) -> dict[str, Any]:
    """The figures of a step with the engine mismatch that is known, and the share of the deviation that is drift."""
    known = mismatch or {}
    share, total, apart = None, drift.get("kl_k3"), known.get("kl_k3")
    if apart is not None and total:
        share = min(1.0, max(0.0, 1.0 - apart / total))
    return {
        **drift,
        "mismatch": mismatch,
        "mismatch_kl_k3": apart,
        "mismatch_log_ratio_abs_max": known.get("log_ratio_abs_max"),
        "drift_share": share,
    }


def _distribution(diagnostics: RatioDiagnostics) -> dict[str, Any]:
    if diagnostics.state is None:
        return {}
    sums, histograms = diagnostics.state.read()
    return {name: histograms[name] for name in BY_STALENESS} | {
        "ratio_sum": sums["tokens"] + sums["ratio_excess"],
        "sequence_ratio_sum": sums["sequences"] + sums["sequence_excess"],
    }

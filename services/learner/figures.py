"""What a step says of its importance ratios: all tokens, and by bucket (staleness in steps, update in the step).

Engine mismatch is bucket (0, 0): tokens recomputed under the very weights that sampled them, so that what differs is
the engine. Where a step has no such tokens it is None, never 0. What is left is drift:
drift share = 1 − k3(mismatch) / k3(total), within 0..1.
"""

from __future__ import annotations

from typing import Any

from sspo_core import LossOutputs, RatioDiagnostics


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
        """Plain numbers: the figures of `sspo_core.diagnostics`, histograms, buckets, mismatch and drift share."""
        figures: dict[str, Any] = dict(self._total.figures())
        buckets = {f"{staleness}/{update}": d.figures() for (staleness, update), d in sorted(self._buckets.items())}
        mismatch = buckets.get("0/0", {}).get("kl_k3")
        total = figures.get("kl_k3")
        share = None
        if mismatch is not None and total:
            share = min(1.0, max(0.0, 1.0 - mismatch / total))
        return {
            **figures,
            "histograms": self._total.histograms(),
            "buckets": buckets,
            "mismatch_kl_k3": mismatch,
            "mismatch_log_ratio_abs_max": buckets.get("0/0", {}).get("log_ratio_abs_max"),
            "drift_share": share,
        }

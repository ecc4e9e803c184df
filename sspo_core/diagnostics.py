"""Diagnostics of importance ratios: additive state on the device, read once.

`RatioDiagnostics` adds micro-batches, merges across micro-batches, staleness buckets and ranks, and only `figures()`
and `histograms()` wait for the device. Everything counts unmasked tokens with finite log-probs, and sequences with at
least one. z = policy − behaviour (log-probs), r = exp(z), s_i = exp(mean_t z), W_i = exp(sum_t z); z and log W are
clamped to ±20 before exp.

| figure | meaning |
|---|---|
| tokens, sequences | counted ones |
| empty_sequences | sequences without a counted token |
| nonfinite_tokens | tokens dropped from the mask because a log-prob was not finite |
| clamped_tokens | tokens with abs(z) > 20 |
| ratio_mean, ratio_std, ratio_min, ratio_max | of r; the std is the population's |
| log_ratio_abs_p50, _p95, _p99, _p999 | quantiles of abs(z) before the clamp, interpolated in a histogram: within 7.5 % |
| log_ratio_abs_max | largest abs(z) before the clamp, exact |
| outside_band_ratio | fraction of tokens with r outside [0.9, 1.1] |
| kl_k1 | mean(−z); estimates KL(behaviour ‖ policy), may be negative |
| kl_k2 | mean(z²)/2 |
| kl_k3 | mean(r − 1 − z), never negative |
| ess_token, ess_sequence | (mean w)²/mean(w²) in (0, 1], with w = r and w = s_i |
| chi2_token, chi2_sequence | mean(r²) − 1 and mean(W²) − 1 |
| sequence_ratio_mean, _min, _max | of s_i |
| gate_mean, gate_min, gate_max | of S_i; under an arithmetic mean of the mean of f_it over a sequence |
| gate_weight_mean | mean over tokens of k/A, by which the gradient of a token differs from REINFORCE |
| gate_weight_mean_positive, _negative | the same over tokens with A > 0, with A < 0 |
| effective_update_ratio | mean of f'(r) (arXiv 2602.19345); under a geometric mean of S_i·h |
| gate_saturated_ratio | fraction of tokens with h < 0.1: their gate has taken nine tenths of the gradient |
| clip_fraction, clip_fraction_low, clip_fraction_high | fraction of tokens with h = 0, of them with ratio below, above 1 |
| kl_reference_k3 | mean(exp(d) − d − 1), d = reference − policy; only with a KL penalty |

A figure without anything to be a mean of is left out, never NaN. The ratio of gates and clips is the objective's own
(of the sequence for GSPO, to the proximal policy where there is one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sspo_core.aggregation import token_mean
from sspo_core.ratios import MAX_LOG_RATIO

RATIO_BUCKETS = (0.5, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 2.0, 5.0)
"""Upper edges, inclusive; one more bucket lies above them."""

LOG_RATIO_BUCKETS = tuple(10.0 ** (exponent / 32.0) for exponent in range(-6 * 32, 2 * 32 + 1))
"""Upper edges for abs(z): 32 a decade from 1e-6 to 100."""

BAND = (0.9, 1.1)
SATURATED_BELOW = 0.1
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}

_SMALLEST = frozenset({"ratio_min", "sequence_ratio_min", "gate_min"})
_LARGEST = frozenset({"ratio_max", "sequence_ratio_max", "gate_max", "log_ratio_abs_max"})
_HISTOGRAMS = ("ratio_histogram", "sequence_ratio_histogram", "log_ratio_abs_histogram")

_MEANS = {
    "outside_band_ratio": ("outside_band_tokens", "tokens"),
    "kl_k1": ("k1", "tokens"),
    "kl_k2": ("k2", "tokens"),
    "kl_k3": ("k3", "tokens"),
    "chi2_sequence": ("product_square_excess", "sequences"),
    "gate_mean": ("gate", "gate_sequences"),
    "gate_weight_mean": ("gate_weight", "gate_tokens"),
    "gate_weight_mean_positive": ("gate_weight_positive", "positive_tokens"),
    "gate_weight_mean_negative": ("gate_weight_negative", "negative_tokens"),
    "effective_update_ratio": ("effective_update", "gate_tokens"),
    "gate_saturated_ratio": ("saturated_tokens", "gate_tokens"),
    "clip_fraction": ("clipped_tokens", "gate_tokens"),
    "clip_fraction_low": ("clipped_low_tokens", "gate_tokens"),
    "clip_fraction_high": ("clipped_high_tokens", "gate_tokens"),
    "kl_reference_k3": ("reference_k3", "reference_tokens"),
}
"""Figure → its sum and its count."""

_COUNTS = ("tokens", "sequences", "empty_sequences", "nonfinite_tokens", "clamped_tokens")


@dataclass(frozen=True)
class GateReadings:
    """What an objective did to each token, all [B, T] and detached."""

    log_ratio: Tensor
    """Of the objective's own ratio, clamped."""
    weight: Tensor
    """f_it, or S_i at every token."""
    h: Tensor
    update: Tensor
    """f'(r_it), or S_i·h_it."""
    applied: Tensor
    """k/A."""
    advantages: Tensor


class RatioDiagnostics:
    """Accumulates diagnostics; `state` is what is additive, as detached tensors."""

    def __init__(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Empty, or over the state of another one, such as `LossOutputs.metrics`."""
        self.state: dict[str, Tensor] = dict(state or {})

    @torch.no_grad()
    def add(self, log_ratio_BT: Tensor, mask_BT: Tensor) -> None:
        """Counts log ratios z, [B, T], not clamped; they must be finite where the mask is set."""
        wanted = mask_BT.bool()
        counted = wanted & torch.isfinite(log_ratio_BT)
        raw_BT = torch.where(counted, log_ratio_BT.detach(), 0.0)
        z_BT = raw_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        excess_BT = torch.expm1(z_BT)
        ratio_BT = z_BT.exp()
        filled_B = counted.any(dim=1)
        log_s_B = token_mean(z_BT, counted).squeeze(1)
        log_product_B = raw_BT.sum(dim=1).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        outside_BT = (ratio_BT < BAND[0]) | (ratio_BT > BAND[1])
        self._merge(
            {
                "tokens": _sum(counted, counted),
                "sequences": _sum(filled_B, filled_B),
                "empty_sequences": _sum(~filled_B, ~filled_B),
                "nonfinite_tokens": _sum(wanted & ~counted, wanted),
                "clamped_tokens": _sum(raw_BT.abs() > MAX_LOG_RATIO, counted),
                "ratio_excess": _sum(excess_BT, counted),
                "ratio_excess_squared": _sum(excess_BT.double().square(), counted),
                "ratio_min": _min(ratio_BT, counted),
                "ratio_max": _max(ratio_BT, counted),
                "ratio_histogram": _histogram(ratio_BT, counted, RATIO_BUCKETS),
                "log_ratio_abs_max": _max(raw_BT.abs(), counted),
                "log_ratio_abs_histogram": _histogram(raw_BT.abs(), counted, LOG_RATIO_BUCKETS),
                "outside_band_tokens": _sum(outside_BT, counted),
                "k1": _sum(-z_BT, counted),
                "k2": _sum(z_BT.square() / 2.0, counted),
                "k3": _sum(excess_BT - z_BT, counted),
                "sequence_excess": _sum(torch.expm1(log_s_B), filled_B),
                "sequence_excess_squared": _sum(torch.expm1(log_s_B).double().square(), filled_B),
                "sequence_ratio_min": _min(log_s_B.exp(), filled_B),
                "sequence_ratio_max": _max(log_s_B.exp(), filled_B),
                "sequence_ratio_histogram": _histogram(log_s_B.exp(), filled_B, RATIO_BUCKETS),
                "product_square_excess": _sum(torch.expm1(2.0 * log_product_B.double()), filled_B),
            }
        )

    @torch.no_grad()
    def add_gate(self, readings: GateReadings, mask_BT: Tensor) -> None:
        """Counts what an objective did to the tokens of the mask; everything in `readings` is finite there."""
        filled_B = mask_BT.any(dim=1)
        gate_B = token_mean(readings.weight, mask_BT).squeeze(1)
        positive_BT, negative_BT = mask_BT & (readings.advantages > 0), mask_BT & (readings.advantages < 0)
        clipped_BT = readings.h == 0
        self._merge(
            {
                "gate": _sum(gate_B, filled_B),
                "gate_sequences": _sum(filled_B, filled_B),
                "gate_min": _min(gate_B, filled_B),
                "gate_max": _max(gate_B, filled_B),
                "gate_tokens": _sum(mask_BT, mask_BT),
                "gate_weight": _sum(readings.applied, mask_BT),
                "positive_tokens": _sum(positive_BT, positive_BT),
                "gate_weight_positive": _sum(readings.applied, positive_BT),
                "negative_tokens": _sum(negative_BT, negative_BT),
                "gate_weight_negative": _sum(readings.applied, negative_BT),
                "effective_update": _sum(readings.update, mask_BT),
                "saturated_tokens": _sum(readings.h < SATURATED_BELOW, mask_BT),
                "clipped_tokens": _sum(clipped_BT, mask_BT),
                "clipped_low_tokens": _sum(clipped_BT & (readings.log_ratio < 0), mask_BT),
                "clipped_high_tokens": _sum(clipped_BT & (readings.log_ratio > 0), mask_BT),
            }
        )

    def count(self, **sums: Tensor) -> None:
        """Adds scalars that were summed elsewhere."""
        self._merge({name: value.detach().double() for name, value in sums.items()})

    def merge(self, other: RatioDiagnostics) -> None:
        """Adds what `other` has counted."""
        self._merge(other.state)

    def figures(self) -> dict[str, float]:
        """The figures of the module's table; waits for the device once."""
        scalars = {name: value for name, value in self.state.items() if name not in _HISTOGRAMS}
        if not scalars:
            return {}
        read = dict(zip(scalars, torch.stack([value.double() for value in scalars.values()]).tolist(), strict=True))
        figures = {name: read[name] for name in _COUNTS if name in read}
        for name, (total, count) in _MEANS.items():
            if read.get(count, 0.0) > 0:
                figures[name] = read[total] / read[count]
        if read.get("tokens", 0.0) > 0:
            figures |= _ratio_figures(read) | self._quantiles(read)
        if read.get("gate_sequences", 0.0) > 0:
            figures |= {name: read[name] for name in ("gate_min", "gate_max")}
        return figures

    def histograms(self) -> dict[str, list[float]]:
        """Counts per bucket, not cumulative, the last one above the last edge; `RATIO_BUCKETS` for the ratios,
        `LOG_RATIO_BUCKETS` for `log_ratio_abs_histogram`."""
        return {name: self.state[name].tolist() for name in _HISTOGRAMS if name in self.state}

    def _merge(self, other: Mapping[str, Tensor]) -> None:
        for name, value in other.items():
            mine = self.state.get(name)
            if mine is None:
                self.state[name] = value
            elif name in _SMALLEST:
                self.state[name] = torch.minimum(mine, value)
            elif name in _LARGEST:
                self.state[name] = torch.maximum(mine, value)
            else:
                self.state[name] = mine + value

    def _quantiles(self, read: Mapping[str, float]) -> dict[str, float]:
        counts = self.state["log_ratio_abs_histogram"].tolist()
        return {
            f"log_ratio_abs_{name}": _quantile(counts, quantile, read["log_ratio_abs_max"])
            for name, quantile in QUANTILES.items()
        }


def _ratio_figures(read: Mapping[str, float]) -> dict[str, float]:
    figures = {name: read[name] for name in sorted((_SMALLEST | _LARGEST) - {"gate_min", "gate_max"})}
    for unit, count, mean_name in (("ratio", "tokens", "ratio_mean"), ("sequence", "sequences", "sequence_ratio_mean")):
        # Sums of r − 1 rather than of r: near on-policy, the squares would cancel.
        excess = read[f"{unit}_excess"] / read[count]
        square = read[f"{unit}_excess_squared"] / read[count]
        figures[mean_name] = 1.0 + excess
        figures["ess_token" if unit == "ratio" else "ess_sequence"] = (1.0 + excess) ** 2 / (
            1.0 + 2.0 * excess + square
        )
        if unit == "ratio":
            figures["ratio_std"] = max(square - excess**2, 0.0) ** 0.5
            figures["chi2_token"] = 2.0 * excess + square
    return figures


def _quantile(counts: list[float], quantile: float, largest: float) -> float:
    """Linear within its bucket, never above the largest value seen."""
    rank = quantile * sum(counts)
    below = 0.0
    edges = (0.0, *LOG_RATIO_BUCKETS, largest)
    for bucket, count in enumerate(counts):
        if count > 0 and below + count >= rank:
            low, high = edges[bucket], edges[bucket + 1]
            return min(low + (high - low) * (rank - below) / count, largest)
        below += count
    return largest


def _sum(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, 0).sum(dtype=torch.float64)


def _min(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, torch.inf).amin().double()


def _max(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, -torch.inf).amax().double()


def _histogram(x: Tensor, where: Tensor, edges: tuple[float, ...]) -> Tensor:
    index = torch.bucketize(x, _edges(edges, x.device, x.dtype)).reshape(-1)
    counts = torch.zeros(len(edges) + 1, dtype=torch.float64, device=x.device)
    return counts.index_add_(0, index, where.reshape(-1).double())


@cache
def _edges(edges: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Kept on the device: copying them for every micro-batch would wait for it."""
    return torch.tensor(edges, dtype=dtype, device=device)

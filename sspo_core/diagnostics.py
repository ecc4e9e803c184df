"""Diagnostics of importance ratios: additive state on the device, read once.

`RatioDiagnostics` adds micro-batches and merges across micro-batches and staleness buckets; only `figures()` and
`histograms()` wait for the device. The table of figures is in `figures.py`. State is float64, so that the small
divergence of two engines (z about 1e-6) survives the sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sspo_core.aggregation import token_mean
from sspo_core.figures import (
    BAND,
    HISTOGRAMS,
    LARGEST,
    LOG_RATIO_BUCKETS,
    RATIO_BUCKETS,
    SATURATED_BELOW,
    SMALLEST,
    figures_of,
)
from sspo_core.ratios import MAX_LOG_RATIO


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
        """Counts log ratios z = policy − behaviour, [B, T], not clamped; anything may lie outside the mask."""
        wanted = mask_BT.bool()
        counted = wanted & torch.isfinite(log_ratio_BT)
        raw_BT = torch.where(counted, log_ratio_BT.double(), 0.0)
        z_BT = raw_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        filled_B = counted.any(dim=1)
        self._merge(
            {
                "tokens": _sum(counted, counted),
                "sequences": _sum(filled_B, filled_B),
                "empty_sequences": _sum(~filled_B, ~filled_B),
                "nonfinite_tokens": _sum(wanted & ~counted, wanted),
                "clamped_tokens": _sum(raw_BT.abs() > MAX_LOG_RATIO, counted),
                "log_ratio_abs_max": _max(raw_BT.abs(), counted),
                "log_ratio_abs_histogram": _histogram(raw_BT.abs(), counted, LOG_RATIO_BUCKETS),
            }
        )
        self._merge(_token_state(z_BT, counted))
        self._merge(_sequence_state(token_mean(z_BT, counted).squeeze(1), raw_BT.sum(dim=1), filled_B))

    @torch.no_grad()
    def add_gate(self, readings: GateReadings, mask_BT: Tensor) -> None:
        """Counts what an objective did to the tokens of the mask; everything in `readings` is finite there."""
        filled_B = mask_BT.any(dim=1)
        gate_B = token_mean(readings.weight.double(), mask_BT).squeeze(1)
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
        """The figures of `figures.py`'s table; waits for the device."""
        scalars = {name: value for name, value in self.state.items() if name not in HISTOGRAMS}
        if not scalars:
            return {}
        read: list[float] = torch.stack(list(scalars.values())).tolist()
        return figures_of(dict(zip(scalars, read, strict=True)), self.histograms().get("log_ratio_abs_histogram", []))

    def histograms(self) -> dict[str, list[float]]:
        """Counts per bucket, not cumulative, the last one above the last edge: `RATIO_BUCKETS` for the two ratios,
        `LOG_RATIO_BUCKETS` for `log_ratio_abs_histogram`. Waits for the device."""
        return {name: self.state[name].tolist() for name in HISTOGRAMS if name in self.state}

    def _merge(self, other: Mapping[str, Tensor]) -> None:
        for name, value in other.items():
            mine = self.state.get(name)
            if mine is None:
                self.state[name] = value
            elif name in SMALLEST:
                self.state[name] = torch.minimum(mine, value)
            elif name in LARGEST:
                self.state[name] = torch.maximum(mine, value)
            else:
                self.state[name] = mine + value


def _token_state(z_BT: Tensor, counted: Tensor) -> dict[str, Tensor]:
    excess_BT, ratio_BT = torch.expm1(z_BT), z_BT.exp()
    return {
        "ratio_excess": _sum(excess_BT, counted),
        "ratio_excess_squared": _sum(excess_BT.square(), counted),
        "ratio_min": _min(ratio_BT, counted),
        "ratio_max": _max(ratio_BT, counted),
        "ratio_histogram": _histogram(ratio_BT, counted, RATIO_BUCKETS),
        "outside_band_tokens": _sum((ratio_BT < BAND[0]) | (ratio_BT > BAND[1]), counted),
        "k1": _sum(-z_BT, counted),
        "k2": _sum(z_BT.square() / 2.0, counted),
        "k3": _sum(excess_BT - z_BT, counted),
    }


def _sequence_state(log_s_B: Tensor, log_product_B: Tensor, filled_B: Tensor) -> dict[str, Tensor]:
    excess_B, ratio_B = torch.expm1(log_s_B), log_s_B.exp()
    bounded_B = log_product_B.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return {
        "sequence_excess": _sum(excess_B, filled_B),
        "sequence_excess_squared": _sum(excess_B.square(), filled_B),
        "sequence_ratio_min": _min(ratio_B, filled_B),
        "sequence_ratio_max": _max(ratio_B, filled_B),
        "sequence_ratio_histogram": _histogram(ratio_B, filled_B, RATIO_BUCKETS),
        "product_square_excess": _sum(torch.expm1(2.0 * bounded_B), filled_B),
    }


def _sum(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, 0).sum(dtype=torch.float64)


def _min(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, torch.inf).amin()


def _max(x: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, x, -torch.inf).amax()


def _histogram(x: Tensor, where: Tensor, edges: tuple[float, ...]) -> Tensor:
    index = torch.bucketize(x, _edges(edges, x.device)).reshape(-1)
    counts = torch.zeros(len(edges) + 1, dtype=torch.float64, device=x.device)
    return counts.index_add_(0, index, where.reshape(-1).double())


@cache
def _edges(edges: tuple[float, ...], device: torch.device) -> Tensor:
    """Kept on the device: copying them for every micro-batch would wait for it."""
    return torch.tensor(edges, dtype=torch.float64, device=device)

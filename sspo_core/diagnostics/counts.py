"""Counts of one micro-batch: scalars and histograms on the device, under the names of `figures.py`.

Nothing here waits for the device, and nothing is read twice. A tensor that is 0 outside the mask is summed without the
mask, and the readings of an objective are one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sspo_core.diagnostics.figures import (
    BAND,
    BUCKETS_PER_DECADE,
    DECADES,
    HISTOGRAMS,
    LOG_RATIO_BUCKETS,
    RATIO_BUCKETS,
    SATURATED_BELOW,
)
from sspo_core.objectives.aggregation import token_mean
from sspo_core.objectives.ratios import MAX_LOG_RATIO


@dataclass(frozen=True)
class GateReadings:
    """Effects of an objective on each token, all [B, T], detached and finite; `advantages` are 0 outside the mask."""

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


@torch.no_grad()
def ratio_counts(log_ratio_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """The counts that `RatioDiagnostics.add` adds, by name."""
    wanted = mask_BT.bool()
    counted = wanted & torch.isfinite(log_ratio_BT)
    raw_BT = torch.where(counted, log_ratio_BT, 0.0).double()
    z_BT = raw_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    counts_B = counted.sum(dim=1)
    filled_B, tokens = counts_B > 0, counts_B.sum()
    return {
        "tokens": tokens,
        "sequences": filled_B.sum(),
        "empty_sequences": (~filled_B).sum(),
        "nonfinite_tokens": wanted.sum() - tokens,
        **_token_counts(raw_BT, z_BT, counted),
        **_sequence_counts(z_BT.sum(dim=1) / counts_B.clamp(min=1), raw_BT.sum(dim=1), filled_B),
    }


@torch.no_grad()
def gate_counts(readings: GateReadings, mask_BT: Tensor) -> dict[str, Tensor]:
    """The counts of what an objective did to the tokens of the mask, by name: one matrix product of quantities and
    selections of tokens."""
    filled_B = mask_BT.any(dim=1)
    gate_B = token_mean(readings.weight.double(), mask_BT).squeeze(1)
    clipped_BT = mask_BT & (readings.h == 0)
    quantities = torch.stack([torch.ones_like(readings.h), readings.applied, readings.update]).double()
    selections = torch.stack(
        [
            mask_BT,
            readings.advantages > 0,
            readings.advantages < 0,
            mask_BT & (readings.h < SATURATED_BELOW),
            clipped_BT,
            clipped_BT & (readings.log_ratio < 0),
            clipped_BT & (readings.log_ratio > 0),
        ]
    ).double()
    counts, applied, update = (quantities.flatten(1) @ selections.flatten(1).t()).unbind()
    return {
        "gate": gate_B.sum(),  # 0 where there is no token
        "gate_sequences": filled_B.sum(),
        "gate_min": torch.where(filled_B, gate_B, math.inf).amin(),
        "gate_max": torch.where(filled_B, gate_B, -math.inf).amax(),
        "gate_tokens": counts[0],
        "gate_weight": applied[0],
        "positive_tokens": counts[1],
        "gate_weight_positive": applied[1],
        "negative_tokens": counts[2],
        "gate_weight_negative": applied[2],
        "effective_update": update[0],
        "saturated_tokens": counts[3],
        "clipped_tokens": counts[4],
        "clipped_low_tokens": counts[5],
        "clipped_high_tokens": counts[6],
    }


@torch.no_grad()
def correction_counts(weight_BT: Tensor, altered_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """Of the weight beside an objective's ratio, after truncation or masking."""
    weights = torch.where(mask_BT, weight_BT, 0.0).double().flatten()
    return {
        "correction": weights.sum(),
        "correction_squared": torch.dot(weights, weights),
        "correction_tokens": mask_BT.sum(),
        "correction_min": torch.where(mask_BT, weight_BT, math.inf).amin(),
        "correction_max": torch.where(mask_BT, weight_BT, -math.inf).amax(),
        "altered_tokens": altered_BT.sum(),
    }


@torch.no_grad()
def reference_counts(reference_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """Of d = reference − policy, which is 0 outside the mask."""
    d = reference_BT.double().flatten()
    return {
        "reference_k1": -d.sum(),
        "reference_k2": torch.dot(d, d) / 2.0,
        "reference_k3": (torch.expm1(d) - d).sum(),
        "reference_tokens": mask_BT.sum(),
    }


@torch.no_grad()
def entropy_counts(entropy_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """Of the policy's entropy; a token where it isn't finite doesn't count."""
    counted = mask_BT & torch.isfinite(entropy_BT)
    return {
        "entropy": torch.where(counted, entropy_BT, 0.0).sum(dtype=torch.float64),
        "entropy_tokens": counted.sum(),
    }


@torch.no_grad()
def surprise_counts(surprise_BT: Tensor, log_ratio_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """Of d = −log-prob of the sampled token under the policy − its entropy, beside z = log ratio."""
    counted = mask_BT & torch.isfinite(surprise_BT) & torch.isfinite(log_ratio_BT)
    d = torch.where(counted, surprise_BT, 0.0).double().flatten()
    z = torch.where(counted, log_ratio_BT, 0.0).double().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).flatten()
    return {
        "surprise": d.sum(),
        "surprise_squared": torch.dot(d, d),
        "surprise_log_ratio": torch.dot(d, z),
        "surprise_tokens": counted.sum(),
    }


def _token_counts(raw_BT: Tensor, z_BT: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """z and exp(z) − 1 are 0 outside the mask, so that their sums need none."""
    excess, z = torch.expm1(z_BT).flatten(), z_BT.flatten()
    low, high = math.log(BAND[0]), math.log(BAND[1])
    return {
        "clamped_tokens": (raw_BT != z_BT).sum(),
        "ratio_excess": excess.sum(),
        "ratio_excess_squared": torch.dot(excess, excess),
        "log_ratio": z.sum(),
        "log_ratio_squared": torch.dot(z, z),
        "outside_band_tokens": ((z < low) | (z > high)).sum(),
        "log_ratio_min": torch.where(counted, z_BT, math.inf).amin(),
        "log_ratio_max": torch.where(counted, z_BT, -math.inf).amax(),
        "log_ratio_abs_max": raw_BT.abs().amax(),
        "ratio_histogram": _histogram(_ratio_bucket(excess + 1.0), counted, "ratio_histogram"),
        "log_ratio_histogram": _histogram(_log_ratio_bucket(raw_BT), counted, "log_ratio_histogram"),
    }


def _sequence_counts(log_s_B: Tensor, log_product_B: Tensor, filled_B: Tensor) -> dict[str, Tensor]:
    """The same of sequences; log s and log W are 0 where there is no token."""
    excess_B = torch.expm1(log_s_B)
    bounded_B = log_product_B.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    summed = torch.stack(
        [excess_B, excess_B.square(), torch.expm1(2.0 * bounded_B), log_product_B, log_s_B, log_s_B.abs()]
    ).sum(dim=1)
    both = torch.stack([log_s_B, log_product_B])
    smallest = torch.where(filled_B, both, math.inf).amin(dim=1)
    largest = torch.where(filled_B, both, -math.inf).amax(dim=1)
    return {
        "sequence_excess": summed[0],
        "sequence_excess_squared": summed[1],
        "product_square_excess": summed[2],
        "log_product": summed[3],
        "log_sequence_ratio": summed[4],
        "log_sequence_ratio_abs": summed[5],
        "log_sequence_ratio_min": smallest[0],
        "log_product_min": smallest[1],
        "log_sequence_ratio_max": largest[0],
        "log_product_max": largest[1],
        "sequence_ratio_histogram": _histogram(_ratio_bucket(excess_B + 1.0), filled_B, "sequence_ratio_histogram"),
        "log_sequence_ratio_histogram": _histogram(
            _log_ratio_bucket(log_s_B), filled_B, "log_sequence_ratio_histogram"
        ),
    }


def _ratio_bucket(ratio: Tensor) -> Tensor:
    return torch.bucketize(ratio, _edges(ratio.device))


def _log_ratio_bucket(z: Tensor) -> Tensor:
    """Of a signed histogram over LOG_RATIO_BUCKETS; computed, since a search among so many edges takes longer."""
    place = (z.abs().float().log10() - DECADES[0]).mul_(BUCKETS_PER_DECADE).ceil_().clamp_(0, len(LOG_RATIO_BUCKETS))
    return place.long() + (z > 0) * (len(LOG_RATIO_BUCKETS) + 1)


def _histogram(bucket: Tensor, where: Tensor, name: str) -> Tensor:
    counts = torch.zeros(HISTOGRAMS[name], dtype=torch.float64, device=bucket.device)
    return counts.index_add_(0, bucket.flatten(), where.flatten().double())


@cache
def _edges(device: torch.device) -> Tensor:
    """Kept on the device: copying them for every micro-batch would wait for it."""
    return torch.tensor(RATIO_BUCKETS, dtype=torch.float64, device=device)

"""The figures of importance ratios: their table, their buckets, and how they follow from additive sums.

Standard library only: a service that shows figures needs no torch. `ratio_diagnostics.py` collects the sums. Everything
counts unmasked tokens with finite log-probs, and sequences with at least one. z = policy − behaviour (log-probs),
r = exp(z), s_i = exp(mean_t z), W_i = exp(sum_t z); z and log W are clamped to ±20 before exp.

| figure | meaning |
|---|---|
| tokens, sequences | counted ones |
| empty_sequences | sequences without a counted token |
| nonfinite_tokens | tokens dropped from the mask because a log-prob was not finite |
| clamped_tokens | tokens with abs(z) > 20 |
| ratio_mean, ratio_std, ratio_min, ratio_max | of r; the std is the population's |
| ratio_p50, _p95, _p99, _p999 | quantiles of r, from a histogram: of log r within 7.5 % |
| log_ratio_abs_p50, _p95, _p99, _p999 | quantiles of abs(z) before the clamp, from the same |
| log_ratio_abs_max | largest abs(z) before the clamp, exact |
| outside_band_ratio | fraction of tokens with r outside [0.9, 1.1] |
| kl_k1 | mean(−z); estimates KL(behaviour ‖ policy), may be negative |
| kl_k2 | mean(z²)/2 |
| kl_k3 | mean(r − 1 − z), never negative |
| ess_token, ess_sequence | (mean w)²/mean(w²) in (0, 1], with w = r and w = s_i |
| chi2_token, chi2_sequence | mean(r²) − 1 and mean(W²) − 1 |
| sequence_ratio_mean, sequence_ratio_min, sequence_ratio_max | of s_i |
| sequence_ratio_p50, _p95, _p99, _p999 | quantiles of s_i, as those of r |
| log_product_mean, log_product_min, log_product_max | of log W_i before the clamp |
| log_perplexity_difference, log_perplexity_difference_abs | mean over sequences of −log s_i, of its absolute value |
| gate_mean, gate_min, gate_max | of S_i; under an arithmetic mean, of the mean of f_it over a sequence |
| gate_weight_mean | mean over tokens of k/A, by which a token's gradient differs from REINFORCE |
| gate_weight_mean_positive, gate_weight_mean_negative | the same over tokens with A > 0, with A < 0 |
| effective_update_ratio | mean over tokens of f'(r) (arXiv 2602.19345); under a geometric mean, of S_i·h |
| gate_saturated_ratio | fraction of tokens with h < 0.1: the gate has taken nine tenths of their gradient |
| clip_fraction, clip_fraction_low, clip_fraction_high | fraction of tokens with h = 0, with ratio below and above 1 |
| correction_mean, correction_min, correction_max | of the weight proximal/behaviour, after truncation or masking |
| correction_ess | (mean w)²/mean(w²) of that weight |
| correction_altered_ratio | fraction of tokens whose weight was truncated or masked |
| rejected_sequence_ratio | fraction of sequences rejected for their geometric ratio |
| kl_reference_k1, _k2, _k3 | of KL(policy ‖ reference), d = reference − policy: −d, d²/2, exp(d) − d − 1 |
| entropy_mean | of the policy, over tokens; only where the entropy was given, as the next four |
| surprise_excess | mean of d = −log-prob of the sampled token under the policy − entropy: 0 where the policy sampled |
| surprise_excess_error | its standard error: what tokens exceed their entropy by is uncorrelated under the policy |
| surprise_slope, surprise_correlation | of z over d: a temperature T' in T's place gives T/T' = 1 + slope |

A figure without anything to be a mean of is left out, never NaN. The ratio of gates and clips is the objective's own:
of the sequence for GSPO, to the proximal policy where there is one. Under a detached weight (CISPO) a clip leaves a
token its gradient, and the clip fraction says how many weights are at a bound.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

RATIO_BUCKETS = (0.5, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 2.0, 5.0)
"""Upper edges, inclusive; one more bucket lies above them."""

BUCKETS_PER_DECADE = 32
DECADES = (-6, 2)
LOG_RATIO_BUCKETS: tuple[float, ...] = tuple(
    10.0 ** (exponent / BUCKETS_PER_DECADE)
    for exponent in range(DECADES[0] * BUCKETS_PER_DECADE, DECADES[1] * BUCKETS_PER_DECADE + 1)
)
"""Upper edges for abs(z): 32 a decade from 1e-6 to 100; one more bucket lies above them. A signed histogram has these
buckets twice, first those of z ≤ 0, then those of z > 0."""

BAND = (0.9, 1.1)
SATURATED_BELOW = 0.1

SUMS = (
    "tokens",
    "sequences",
    "empty_sequences",
    "nonfinite_tokens",
    "clamped_tokens",
    "ratio_excess",
    "ratio_excess_squared",
    "log_ratio",
    "log_ratio_squared",
    "outside_band_tokens",
    "sequence_excess",
    "sequence_excess_squared",
    "product_square_excess",
    "log_product",
    "log_sequence_ratio",
    "log_sequence_ratio_abs",
    "gate",
    "gate_sequences",
    "gate_tokens",
    "gate_weight",
    "positive_tokens",
    "gate_weight_positive",
    "negative_tokens",
    "gate_weight_negative",
    "effective_update",
    "saturated_tokens",
    "clipped_tokens",
    "clipped_low_tokens",
    "clipped_high_tokens",
    "correction",
    "correction_squared",
    "correction_tokens",
    "altered_tokens",
    "rejected_sequences",
    "judged_sequences",
    "reference_k1",
    "reference_k2",
    "reference_k3",
    "reference_tokens",
    "entropy",
    "entropy_tokens",
    "surprise",
    "surprise_squared",
    "surprise_log_ratio",
    "surprise_tokens",
)
SMALLEST = ("log_ratio_min", "log_sequence_ratio_min", "log_product_min", "gate_min", "correction_min")
LARGEST = (
    "log_ratio_max",
    "log_sequence_ratio_max",
    "log_product_max",
    "gate_max",
    "correction_max",
    "log_ratio_abs_max",
)
HISTOGRAMS = {
    "ratio_histogram": len(RATIO_BUCKETS) + 1,
    "sequence_ratio_histogram": len(RATIO_BUCKETS) + 1,
    "log_ratio_histogram": 2 * (len(LOG_RATIO_BUCKETS) + 1),
    "log_sequence_ratio_histogram": 2 * (len(LOG_RATIO_BUCKETS) + 1),
}
"""State that merges by sum, by minimum, by maximum, and (with sizes) by sum again."""

_COUNTS = ("tokens", "sequences", "empty_sequences", "nonfinite_tokens", "clamped_tokens")
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
_MEANS = {
    "outside_band_ratio": ("outside_band_tokens", "tokens"),
    "chi2_sequence": ("product_square_excess", "sequences"),
    "log_product_mean": ("log_product", "sequences"),
    "log_perplexity_difference_abs": ("log_sequence_ratio_abs", "sequences"),
    "gate_mean": ("gate", "gate_sequences"),
    "gate_weight_mean": ("gate_weight", "gate_tokens"),
    "gate_weight_mean_positive": ("gate_weight_positive", "positive_tokens"),
    "gate_weight_mean_negative": ("gate_weight_negative", "negative_tokens"),
    "effective_update_ratio": ("effective_update", "gate_tokens"),
    "gate_saturated_ratio": ("saturated_tokens", "gate_tokens"),
    "clip_fraction": ("clipped_tokens", "gate_tokens"),
    "clip_fraction_low": ("clipped_low_tokens", "gate_tokens"),
    "clip_fraction_high": ("clipped_high_tokens", "gate_tokens"),
    "correction_mean": ("correction", "correction_tokens"),
    "correction_altered_ratio": ("altered_tokens", "correction_tokens"),
    "rejected_sequence_ratio": ("rejected_sequences", "judged_sequences"),
    "kl_reference_k1": ("reference_k1", "reference_tokens"),
    "kl_reference_k2": ("reference_k2", "reference_tokens"),
    "kl_reference_k3": ("reference_k3", "reference_tokens"),
    "entropy_mean": ("entropy", "entropy_tokens"),
}
"""Figure → its sum and its count."""


def figures_of(state: Mapping[str, float], histograms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The figures of the module's table from the scalars of a state (SUMS, SMALLEST, LARGEST) and its histograms."""
    figures = {name: state[name] for name in _COUNTS}
    for name, (total, count) in _MEANS.items():
        if state[count] > 0:
            figures[name] = state[total] / state[count]
    if state["tokens"] > 0:
        figures |= _token_figures(state, histograms["log_ratio_histogram"])
        figures |= _sequence_figures(state, histograms["log_sequence_ratio_histogram"])
    if state["surprise_tokens"] > 0:
        figures |= _surprise_figures(state)
    if state["gate_sequences"] > 0:
        figures |= {name: state[name] for name in ("gate_min", "gate_max")}
    if state["correction_tokens"] > 0:
        figures |= {name: state[name] for name in ("correction_min", "correction_max")}
        if state["correction_squared"] > 0:
            mean = state["correction"] / state["correction_tokens"]
            figures["correction_ess"] = mean**2 * state["correction_tokens"] / state["correction_squared"]
    return figures


def unsigned(counts: Sequence[float]) -> list[float]:
    """A signed histogram without its signs."""
    half = len(counts) // 2
    return [low + high for low, high in zip(counts[:half], counts[half:], strict=True)]


def _token_figures(state: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
    # The sums are of r − 1 rather than of r: near on-policy the squares would cancel.
    mean, square, z, z_square = (
        state[name] / state["tokens"]
        for name in ("ratio_excess", "ratio_excess_squared", "log_ratio", "log_ratio_squared")
    )
    low, high, largest = state["log_ratio_min"], state["log_ratio_max"], state["log_ratio_abs_max"]
    figures = {
        "ratio_mean": 1.0 + mean,
        "ratio_std": _variance(mean, square) ** 0.5,
        "ratio_min": math.exp(low),
        "ratio_max": math.exp(high),
        "log_ratio_abs_max": largest,
        "kl_k1": 0.0 - z,
        "kl_k2": z_square / 2.0,
        "kl_k3": max(mean - z, 0.0),
        "chi2_token": 2.0 * mean + square,
        "ess_token": _effective_sample_size(mean, square, state["tokens"]),
    }
    magnitudes = list(accumulate(unsigned(counts)))
    for name, value in _signed_quantiles(counts, low, high).items():
        figures[f"ratio_{name}"] = math.exp(value)
        figures[f"log_ratio_abs_{name}"] = _quantile(magnitudes, _QUANTILES[name], largest)
    return figures


def _sequence_figures(state: Mapping[str, float], counts: Sequence[float]) -> dict[str, float]:
    mean, square = (state[name] / state["sequences"] for name in ("sequence_excess", "sequence_excess_squared"))
    low, high = state["log_sequence_ratio_min"], state["log_sequence_ratio_max"]
    figures = {
        "sequence_ratio_mean": 1.0 + mean,
        "sequence_ratio_min": math.exp(low),
        "sequence_ratio_max": math.exp(high),
        "ess_sequence": _effective_sample_size(mean, square, state["sequences"]),
        "log_perplexity_difference": 0.0 - state["log_sequence_ratio"] / state["sequences"],
        "log_product_min": state["log_product_min"],
        "log_product_max": state["log_product_max"],
    }
    for name, value in _signed_quantiles(counts, low, high).items():
        figures[f"sequence_ratio_{name}"] = math.exp(value)
    return figures


def _surprise_figures(state: Mapping[str, float]) -> dict[str, float]:
    count = state["surprise_tokens"]
    mean = state["surprise"] / count
    variance = _variance(mean, state["surprise_squared"] / count)
    figures = {"surprise_excess": mean, "surprise_excess_error": (variance / count) ** 0.5}
    if variance > 0 and state["tokens"] == count:  # the sums of z are over the same tokens
        z = state["log_ratio"] / count
        covariance = state["surprise_log_ratio"] / count - mean * z
        spread = _variance(z, state["log_ratio_squared"] / count)
        figures["surprise_slope"] = covariance / variance
        if spread > 0:
            figures["surprise_correlation"] = min(1.0, max(-1.0, covariance / (variance * spread) ** 0.5))
    return figures


def _variance(mean: float, square: float) -> float:
    return max(square - mean * mean, 0.0)


def _effective_sample_size(mean: float, square: float, count: float) -> float:
    """From the means of w − 1 and (w − 1)². Within [1/n, 1] even where all w are so small that the digits run out."""
    mean_square: float = (1.0 + mean) ** 2
    return max(mean_square / (mean_square + _variance(mean, square)), 1.0 / count)


def _quantile(cumulative: Sequence[float], quantile: float, largest: float) -> float:
    """Linear within its bucket, never above the largest value seen."""
    rank = quantile * cumulative[-1]
    bucket = max(bisect_left(cumulative, rank), bisect_right(cumulative, 0.0))  # the first that holds something
    if bucket >= len(cumulative):
        return largest
    below = cumulative[bucket - 1] if bucket else 0.0
    low = LOG_RATIO_BUCKETS[bucket - 1] if bucket else 0.0
    high = LOG_RATIO_BUCKETS[bucket] if bucket < len(LOG_RATIO_BUCKETS) else largest
    return min(low + (high - low) * (rank - below) / (cumulative[bucket] - below), largest)


def _signed_quantiles(counts: Sequence[float], smallest: float, largest: float) -> dict[str, float]:
    """The same from a signed histogram, within what was seen: from below it is a quantile of the side that it is on."""
    half = len(counts) // 2
    negative, positive = list(accumulate(counts[:half])), list(accumulate(counts[half:]))
    below, above = negative[-1], positive[-1]
    found = {}
    for name, quantile in _QUANTILES.items():
        rank, value = quantile * (below + above), largest
        if rank < below:
            value = -_quantile(negative, 1.0 - rank / below, LOG_RATIO_BUCKETS[-1])
        elif above > 0:
            value = _quantile(positive, (rank - below) / above, LOG_RATIO_BUCKETS[-1])
        found[name] = min(max(value, smallest), largest)
    return found

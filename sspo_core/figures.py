"""The figures of importance ratios: their table, their buckets, and how they follow from additive sums.

Standard library only: a service that shows figures needs no torch. `diagnostics.py` collects the sums. Everything
counts unmasked tokens with finite log-probs, and sequences with at least one. z = policy − behaviour (log-probs),
r = exp(z), s_i = exp(mean_t z), W_i = exp(sum_t z); z and log W are clamped to ±20 before exp.

| figure | meaning |
|---|---|
| tokens, sequences | counted ones |
| empty_sequences | sequences without a counted token |
| nonfinite_tokens | tokens dropped from the mask because a log-prob was not finite |
| clamped_tokens | tokens with abs(z) > 20 |
| ratio_mean, ratio_std, ratio_min, ratio_max | of r; the std is the population's |
| log_ratio_abs_p50, _p95, _p99, _p999 | quantiles of abs(z) before the clamp, from a histogram: within 7.5 % |
| log_ratio_abs_max | largest abs(z) before the clamp, exact |
| outside_band_ratio | fraction of tokens with r outside [0.9, 1.1] |
| kl_k1 | mean(−z); estimates KL(behaviour ‖ policy), may be negative |
| kl_k2 | mean(z²)/2 |
| kl_k3 | mean(r − 1 − z), never negative |
| ess_token, ess_sequence | (mean w)²/mean(w²) in (0, 1], with w = r and w = s_i |
| chi2_token, chi2_sequence | mean(r²) − 1 and mean(W²) − 1 |
| sequence_ratio_mean, sequence_ratio_min, sequence_ratio_max | of s_i |
| gate_mean, gate_min, gate_max | of S_i; under an arithmetic mean, of the mean of f_it over a sequence |
| gate_weight_mean | mean over tokens of k/A, by which a token's gradient differs from REINFORCE |
| gate_weight_mean_positive, gate_weight_mean_negative | the same over tokens with A > 0, with A < 0 |
| effective_update_ratio | mean over tokens of f'(r) (arXiv 2602.19345); under a geometric mean, of S_i·h |
| gate_saturated_ratio | fraction of tokens with h < 0.1: the gate has taken nine tenths of their gradient |
| clip_fraction, clip_fraction_low, clip_fraction_high | fraction of tokens with h = 0, with ratio below and above 1 |
| kl_reference_k3 | mean(exp(d) − d − 1), d = reference − policy; only with a KL penalty |

A figure without anything to be a mean of is left out, never NaN. The ratio of gates and clips is the objective's own:
of the sequence for GSPO, to the proximal policy where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RATIO_BUCKETS = (0.5, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25, 2.0, 5.0)
"""Upper edges, inclusive; one more bucket lies above them."""

LOG_RATIO_BUCKETS: tuple[float, ...] = tuple(10.0 ** (exponent / 32.0) for exponent in range(-6 * 32, 2 * 32 + 1))
"""Upper edges for abs(z), inclusive: 32 a decade from 1e-6 to 100; one more bucket lies above them."""

BAND = (0.9, 1.1)
SATURATED_BELOW = 0.1

HISTOGRAMS = ("ratio_histogram", "sequence_ratio_histogram", "log_ratio_abs_histogram")
SMALLEST = ("ratio_min", "sequence_ratio_min", "gate_min")
LARGEST = ("ratio_max", "sequence_ratio_max", "gate_max", "log_ratio_abs_max")
"""What merges by minimum and by maximum; all other state merges by sum."""

_COUNTS = ("tokens", "sequences", "empty_sequences", "nonfinite_tokens", "clamped_tokens")
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
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


def figures_of(state: Mapping[str, float], log_ratio_abs_counts: Sequence[float]) -> dict[str, float]:
    """The figures of the module's table from the scalars of a state and its histogram of abs(z)."""
    figures = {name: state[name] for name in _COUNTS if name in state}
    for name, (total, count) in _MEANS.items():
        if state.get(count, 0.0) > 0:
            figures[name] = state[total] / state[count]
    if state.get("tokens", 0.0) > 0:
        figures |= _ratio_figures(state)
        largest = state["log_ratio_abs_max"]
        for name, quantile in _QUANTILES.items():
            figures[f"log_ratio_abs_{name}"] = _quantile(log_ratio_abs_counts, quantile, largest)
    if state.get("gate_sequences", 0.0) > 0:
        figures |= {name: state[name] for name in ("gate_min", "gate_max")}
    return figures


def _ratio_figures(state: Mapping[str, float]) -> dict[str, float]:
    # The sums are of r − 1 rather than of r: near on-policy the squares would cancel.
    token, token_square = (state[name] / state["tokens"] for name in ("ratio_excess", "ratio_excess_squared"))
    sequence, sequence_square = (
        state[name] / state["sequences"] for name in ("sequence_excess", "sequence_excess_squared")
    )
    variance: float = max(token_square - token * token, 0.0)
    return {
        "ratio_mean": 1.0 + token,
        "ratio_std": variance**0.5,
        "ratio_min": state["ratio_min"],
        "ratio_max": state["ratio_max"],
        "log_ratio_abs_max": state["log_ratio_abs_max"],
        "chi2_token": 2.0 * token + token_square,
        "ess_token": (1.0 + token) ** 2 / (1.0 + 2.0 * token + token_square),
        "sequence_ratio_mean": 1.0 + sequence,
        "sequence_ratio_min": state["sequence_ratio_min"],
        "sequence_ratio_max": state["sequence_ratio_max"],
        "ess_sequence": (1.0 + sequence) ** 2 / (1.0 + 2.0 * sequence + sequence_square),
    }


def _quantile(counts: Sequence[float], quantile: float, largest: float) -> float:
    """Linear within its bucket, never above the largest value seen."""
    rank = quantile * sum(counts)
    edges = (0.0, *LOG_RATIO_BUCKETS, largest)
    below = 0.0
    for bucket, count in enumerate(counts):
        if count > 0 and below + count >= rank:
            low, high = edges[bucket], edges[bucket + 1]
            return min(low + (high - low) * (rank - below) / count, largest)
        below += count
    return largest

"""Figures of importance ratios: those of `sspo_core.diagnostics.figures`, field by field.

A figure whose mean has no terms is left out. `tests/unit/records` holds the fields against the core's table.
"""

from __future__ import annotations

from services.records.record import Record


class RatioFigures(Record):
    """Figures of all tokens of a step, or of the tokens of one staleness and update."""

    tokens: float | None = None
    """Unmasked tokens with finite log-probs."""
    sequences: float | None = None
    """Sequences with at least one such token."""
    empty_sequences: float | None = None
    """Sequences without one."""
    nonfinite_tokens: float | None = None
    """Tokens left out because a log-prob was not finite."""
    clamped_tokens: float | None = None
    """Tokens whose log ratio is beyond ±20."""
    ratio_mean: float | None = None
    """Token ratio r = exp(policy − behaviour log-prob), mean."""
    ratio_std: float | None = None
    """The same, standard deviation."""
    ratio_min: float | None = None
    """The same, smallest."""
    ratio_max: float | None = None
    """The same, largest."""
    ratio_p50: float | None = None
    """The same, median, from a histogram."""
    ratio_p95: float | None = None
    """The same, 95th percentile."""
    ratio_p99: float | None = None
    """The same, 99th percentile."""
    ratio_p999: float | None = None
    """The same, 99.9th percentile."""
    log_ratio_abs_p50: float | None = None
    """Absolute log ratio, median."""
    log_ratio_abs_p95: float | None = None
    """The same, 95th percentile."""
    log_ratio_abs_p99: float | None = None
    """The same, 99th percentile."""
    log_ratio_abs_p999: float | None = None
    """The same, 99.9th percentile."""
    log_ratio_abs_max: float | None = None
    """The same, largest, exact."""
    outside_band_ratio: float | None = None
    """Share of tokens with a ratio outside 0.9 to 1.1."""
    kl_k1: float | None = None
    """KL(behaviour, policy) by the estimator k1, mean(−z); may be negative."""
    kl_k2: float | None = None
    """The same by k2, mean(z²)/2."""
    kl_k3: float | None = None
    """The same by k3, mean(r − 1 − z); never negative."""
    ess_token: float | None = None
    """Effective sample size of token ratios, as a share in (0, 1]."""
    ess_sequence: float | None = None
    """The same of sequence ratios."""
    chi2_token: float | None = None
    """Chi-squared of token ratios, mean(r²) − 1."""
    chi2_sequence: float | None = None
    """The same of whole-sequence products."""
    sequence_ratio_mean: float | None = None
    """Sequence ratio exp(mean z), mean."""
    sequence_ratio_min: float | None = None
    """The same, smallest."""
    sequence_ratio_max: float | None = None
    """The same, largest."""
    sequence_ratio_p50: float | None = None
    """The same, median, from a histogram."""
    sequence_ratio_p95: float | None = None
    """The same, 95th percentile."""
    sequence_ratio_p99: float | None = None
    """The same, 99th percentile."""
    sequence_ratio_p999: float | None = None
    """The same, 99.9th percentile."""
    log_product_mean: float | None = None
    """Logarithm of the product of a sequence's ratios, mean."""
    log_product_min: float | None = None
    """The same, smallest."""
    log_product_max: float | None = None
    """The same, largest."""
    log_perplexity_difference: float | None = None
    """Mean over sequences of −log of the sequence ratio."""
    log_perplexity_difference_abs: float | None = None
    """The same of its absolute value."""
    gate_mean: float | None = None
    """Gate value of a sequence, mean."""
    gate_min: float | None = None
    """The same, smallest."""
    gate_max: float | None = None
    """The same, largest."""
    gate_weight_mean: float | None = None
    """By how much a token's gradient differs from REINFORCE, mean."""
    gate_weight_mean_positive: float | None = None
    """The same over tokens with a positive advantage."""
    gate_weight_mean_negative: float | None = None
    """The same over tokens with a negative advantage."""
    effective_update_ratio: float | None = None
    """Mean of f'(r) over tokens (arXiv 2602.19345)."""
    gate_saturated_ratio: float | None = None
    """Share of tokens from which the gate takes nine tenths of the gradient."""
    clip_fraction: float | None = None
    """Share of tokens without any gradient."""
    clip_fraction_low: float | None = None
    """Those of them with a ratio below 1."""
    clip_fraction_high: float | None = None
    """Those of them with a ratio above 1."""
    correction_mean: float | None = None
    """Weight proximal/behaviour after truncation or masking, mean."""
    correction_min: float | None = None
    """The same, smallest."""
    correction_max: float | None = None
    """The same, largest."""
    correction_ess: float | None = None
    """Effective sample size of that weight."""
    correction_altered_ratio: float | None = None
    """Share of tokens whose weight was truncated or masked."""
    rejected_sequence_ratio: float | None = None
    """Share of sequences rejected for their ratio."""
    kl_reference_k1: float | None = None
    """KL(policy, reference) by k1."""
    kl_reference_k2: float | None = None
    """The same by k2."""
    kl_reference_k3: float | None = None
    """The same by k3."""
    entropy_mean: float | None = None
    """Entropy of the policy, nats a token."""
    surprise_excess: float | None = None
    """By how much sampled tokens are more surprising than the policy's entropy says, nats a token."""
    surprise_excess_error: float | None = None
    """Its standard error."""
    surprise_slope: float | None = None
    """Slope of the log ratio over that excess: an engine at temperature T' gives T/T' − 1."""
    surprise_correlation: float | None = None
    """Their correlation."""


class RatioHistograms(Record):
    """Counts by bucket, not cumulative, one more than there are edges."""

    ratio_histogram: tuple[float, ...] = ()
    """Tokens by ratio; edges are `RATIO_BUCKETS`."""
    sequence_ratio_histogram: tuple[float, ...] = ()
    """Sequences by sequence ratio; edges are `RATIO_BUCKETS`."""
    log_ratio_abs_histogram: tuple[float, ...] = ()
    """Tokens by absolute log ratio; edges are `LOG_RATIO_BUCKETS`."""


class RatioDistribution(Record):
    """Ratios of one staleness, all updates together."""

    ratio_histogram: tuple[float, ...] = ()
    """Tokens by ratio."""
    sequence_ratio_histogram: tuple[float, ...] = ()
    """Sequences by sequence ratio."""
    ratio_sum: float = 0.0
    """Sum of the token ratios."""
    sequence_ratio_sum: float = 0.0
    """Sum of the sequence ratios."""

"""Drift: how far the policy that is trained has moved away from the one that sampled, and why."""

from __future__ import annotations

from deploy.monitoring.boards import drift_words as words
from deploy.monitoring.boards.common import ANNOTATIONS, JOBS, figure, figures, heat, high, low
from deploy.monitoring.model import GREEN, RED, Dashboard, Limits, Panel, PanelKind, Query, Row, Variable
from services.job import guard

OUTSIDE, ESS_TOKEN, ESS_SEQUENCE, K3, SHARE = (
    figure("sspo_is_tokens_outside_band_ratio"),
    figure("sspo_is_effective_sample_size_ratio"),
    figure("sspo_seq_is_effective_sample_size_ratio"),
    figure("sspo_kl_behaviour_k3"),
    figure("sspo_drift_share_ratio"),
)
STALENESS = 'staleness=~"$staleness"'


def outside(kind: PanelKind, width: int, height: int) -> Panel:
    """Needed large and small, here and for one job."""
    limits = high(guard.OUTSIDE_BAND)
    return Panel("Tokens outside 0.9–1.1", OUTSIDE, words.OUTSIDE, kind, "percentunit", width, height, limits=limits)


def glance(
    title: str,
    queries: tuple[Query, ...],
    told: str,
    unit: str = "percentunit",
    below: str = GREEN,
    limits: Limits = (),
) -> Panel:
    """A number at the top."""
    return Panel(title, queries, told, "stat", unit, width=4, height=5, below=below, limits=limits)


ROWS = (
    Row(
        "At a glance",
        (
            outside("stat", 4, 5),
            glance(
                "Effective samples, tokens",
                ESS_TOKEN,
                words.ESS_TOKEN,
                below=RED,
                limits=low(guard.ESS_TOKEN),
            ),
            glance(
                "Effective samples, sequences",
                ESS_SEQUENCE,
                words.ESS_SEQUENCE,
                below=RED,
                limits=low(guard.ESS_SEQUENCE),
            ),
            glance("k3", K3, words.K3, "sci", limits=high(guard.KL_K3)),
            glance("Share that is drift", SHARE, words.SHARE),
            glance("Largest staleness trained", figure("sspo_staleness_steps_max"), words.STALENESS, "short"),
        ),
    ),
    Row(
        "Where the ratios lie, by staleness",
        (
            Panel(
                "Token ratios at staleness $staleness",
                heat("sspo_is_ratio", STALENESS),
                words.HEAT_TOKENS,
                "heatmap",
                repeat="staleness",
            ),
            Panel(
                "Sequence ratios at staleness $staleness",
                heat("sspo_seq_is_ratio", STALENESS),
                words.HEAT_SEQUENCES,
                "heatmap",
                repeat="staleness",
            ),
            Panel(
                "Tokens of the newest step",
                (Query("sum by (le) (sspo_is_ratio_tokens{@})", "{{le}}"),),
                words.NEWEST,
                "bargauge",
                width=12,
            ),
            Panel(
                "Sequences of the newest step",
                (Query("sum by (le) (sspo_seq_is_ratio_sequences{@})", "{{le}}"),),
                words.NEWEST,
                "bargauge",
                width=12,
            ),
        ),
    ),
    Row(
        "How far",
        (
            Panel(
                "Token ratio",
                figures(mean="sspo_is_ratio_mean", smallest="sspo_is_ratio_min", largest="sspo_is_ratio_max"),
                words.TOKEN_RATIO,
                logarithmic=True,
            ),
            Panel(
                "Sequence ratio",
                figures(
                    mean="sspo_seq_is_ratio_mean", smallest="sspo_seq_is_ratio_min", largest="sspo_seq_is_ratio_max"
                ),
                words.SEQUENCE_RATIO,
                logarithmic=True,
            ),
            Panel(
                "Absolute log ratio",
                figures(
                    p50="sspo_is_log_ratio_abs_p50",
                    p99="sspo_is_log_ratio_abs_p99",
                    largest="sspo_is_log_ratio_abs_max",
                ),
                words.LOG_RATIO,
                logarithmic=True,
            ),
            outside("timeseries", 8, 8),
            Panel(
                "Effective samples",
                figures(
                    tokens="sspo_is_effective_sample_size_ratio", sequences="sspo_seq_is_effective_sample_size_ratio"
                ),
                words.ESS_TOKEN,
                unit="percentunit",
                below=RED,
                limits=low(guard.ESS_TOKEN),
            ),
            Panel(
                "KL between behaviour and policy",
                figures(k1="sspo_kl_behaviour_k1", k3="sspo_kl_behaviour_k3"),
                words.K3,
                limits=high(guard.KL_K3),
            ),
            Panel(
                "Chi-squared",
                figures(tokens="sspo_chi2_token", sequences="sspo_chi2_seq"),
                words.CHI_SQUARED,
                logarithmic=True,
                width=12,
            ),
            Panel(
                "k3 by staleness and update",
                (Query("sspo_drift_bucket_kl_k3{@}", "staleness {{staleness}}, update {{update}}"),),
                words.BUCKETS,
                logarithmic=True,
                width=12,
            ),
        ),
    ),
    Row(
        "How much of it is the engine",
        (
            Panel(
                "k3: all, and the engine's",
                figures(all="sspo_kl_behaviour_k3", engine="sspo_engine_mismatch_kl_k3"),
                words.ENGINE_K3,
                logarithmic=True,
            ),
            Panel("Share that is drift", SHARE, words.SHARE, unit="percentunit"),
            Panel(
                "Engine: tokens outside 0.9–1.1",
                figure("sspo_engine_mismatch_outside_band_ratio"),
                words.ENGINE_OUTSIDE,
                unit="percentunit",
            ),
            Panel(
                "Engine: largest difference of log-probs",
                figure("sspo_engine_mismatch_abs_logp"),
                words.ENGINE_LARGEST,
                logarithmic=True,
                width=12,
            ),
            Panel("Tokens it was measured on", figure("sspo_engine_mismatch_tokens"), words.ENGINE_TOKENS, width=12),
        ),
    ),
    Row(
        "How old samples are",
        (
            Panel("Trajectories by staleness", heat("sspo_staleness_steps"), words.STALENESS, "heatmap"),
            Panel(
                "Staleness trained",
                figures(mean="sspo_staleness_steps_mean", largest="sspo_staleness_steps_max"),
                words.STALENESS,
            ),
            Panel(
                "Staleness on the way",
                figures(sampled="sspo_staleness_in_flight_steps_max", queued="sspo_staleness_queued_steps_max"),
                words.ON_THE_WAY,
            ),
        ),
    ),
    Row(
        "What the gate does about it",
        (
            Panel(
                "Weights of token gradients",
                figures(
                    all="sspo_gate_weight_mean",
                    positive="sspo_gate_weight_positive_mean",
                    negative="sspo_gate_weight_negative_mean",
                ),
                words.GATE_WEIGHT,
            ),
            Panel(
                "Saturated, clipped, effective",
                figures(
                    saturated="sspo_gate_saturated_ratio",
                    clipped="sspo_clip_ratio",
                    effective="sspo_effective_update_ratio",
                ),
                words.SATURATED,
                unit="percentunit",
            ),
            Panel("Gate value", figure("sspo_gate_mean"), words.GATE),
        ),
    ),
)

DASHBOARD = Dashboard(
    "sspo-drift",
    "SSPO: drift",
    "How far the policy has moved away from the samples it learns from, why, and what the gate does about it.",
    ROWS,
    (JOBS, Variable("staleness", "Staleness", "label_values(sspo_is_ratio_bucket{@}, staleness)", several=True)),
    ANNOTATIONS,
)

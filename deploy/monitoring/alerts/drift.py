"""Drift and engine mismatch. Thresholds are the guard's own."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert
from deploy.monitoring.alerts.phrases import AT_WORK, JOB, STEP, counted, mean, share
from services.drift import thresholds
from services.job import guard

STALE = counted("sspo_groups_dropped_total", "15m", 'reason="stale"')

NAMED = (
    "learning_rate_too_high",
    "weights_late",
    "samples_wait",
    "stale_engine",
    "engine_behind",
    "sampling_temperature",
    "truncated_sampling",
    "hidden_sampling",
    "reward_collapsed",
)
"""Findings that no other alert stands for."""
FOUND = f'max by (job_id, finding) (sspo_finding{{finding=~"{"|".join(NAMED)}"}})'

ALERTS = (
    Alert(
        name="SspoFinding",
        severity="warning",
        measured=f"({FOUND} or on (job_id) max by (job_id) (0 * {STEP}))",
        comparison=">",
        threshold=0,
        when=AT_WORK,
        lasting="2m",
        summary=f"{JOB}: {{{{ $labels.finding }}}}",
        description="`sspo job explain {{ $labels.job_id }}` says what it means and what to do.",
    ),
    Alert(
        name="SspoTokensOutsideBand",
        severity="warning",
        measured=mean("sspo_is_tokens_outside_band_ratio"),
        comparison=">",
        threshold=guard.OUTSIDE_BAND.enter,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB} trains mostly on tokens that its policy would not sample any more",
        description="{{ $value | humanizePercentage }} of tokens have a ratio outside 0.9 to 1.1.",
    ),
    Alert(
        name="SspoDriftHigh",
        severity="warning",
        measured=mean("sspo_kl_behaviour_k3"),
        comparison=">",
        threshold=guard.KL_K3.enter,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB}: policy and samples are far apart",
        description="k3 between behaviour and policy is {{ $value | humanize }}.",
    ),
    Alert(
        name="SspoEffectiveSamplesLow",
        severity="warning",
        measured=mean("sspo_is_effective_sample_size_ratio"),
        comparison="<",
        threshold=guard.ESS_TOKEN.enter,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB} learns from a small part of its tokens",
        description="The effective sample size of tokens is {{ $value | humanizePercentage }}.",
    ),
    Alert(
        name="SspoEffectiveSequencesLow",
        severity="warning",
        measured=mean("sspo_seq_is_effective_sample_size_ratio"),
        comparison="<",
        threshold=guard.ESS_SEQUENCE.enter,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB} learns from a small part of its sequences",
        description="The effective sample size of sequences is {{ $value | humanizePercentage }}.",
    ),
    Alert(
        name="SspoStale",
        severity="warning",
        measured=share(STALE, "sspo_groups_issued_total", "15m"),
        comparison=">",
        threshold=0.1,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB} drops groups that are older than its staleness window",
        description="{{ $value | humanizePercentage }} of groups became too old before they were trained.",
    ),
    Alert(
        name="SspoEngineMismatch",
        severity="warning",
        measured=mean("sspo_engine_mismatch_kl_k3"),
        comparison=">",
        threshold=guard.MISMATCH_KL_K3.enter,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB}: the engine samples from another distribution than the learner computes",
        description="k3 under the very weights that sampled is {{ $value | humanize }}.",
    ),
    Alert(
        name="SspoEngineMismatchShare",
        severity="info",
        measured=f"1 - {mean('sspo_drift_share_ratio')}",
        comparison=">",
        threshold=thresholds.MISMATCH_SHARE,
        when=f"on (job_id) (sspo_engine_mismatch_kl_k3 > {thresholds.NOTICED_KL_K3:g} and {AT_WORK})",
        lasting="15m",
        summary=f"{JOB}: most of the deviation is the engine's",
        description="{{ $value | humanizePercentage }} of k3 is there without any training.",
    ),
)

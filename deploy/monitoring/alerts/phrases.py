"""Recording rules, and phrases of PromQL that several alerts are made of."""

from __future__ import annotations

from deploy.monitoring.promql import STEP_INTERVAL, WORKERS_ALIVE

STEP, TIME = "sspo_learner_step", "sspo_learner_last_step_timestamp_seconds"
RECORDING: dict[str, str] = {
    # Jobs at work: one that is queued, paused or over has no workers, and waits for nothing that could be broken.
    WORKERS_ALIVE: (
        'sum by (job_id) (sspo_learner_workers) + sum by (job_id) (sspo_rollout_workers{state!="desired"}) '
        '+ sum by (job_id) (sspo_reward_workers{state!="desired"})'
    ),
    # Waits included. A window without a new step has no value, so that a job that stands still is not its own measure.
    STEP_INTERVAL: (
        f"max by (job_id) (max_over_time({TIME}[10m]) - min_over_time({TIME}[10m])) "
        f"/ (max by (job_id) (max_over_time({STEP}[10m]) - min_over_time({STEP}[10m])) > 0)"
    ),
}
"""Name to expression."""

JOB = "Job {{ $labels.job_id }}"
AT_WORK = f"on (job_id) {WORKERS_ALIVE} > 0"
WANTED = f'on (job_id) (sspo_rollout_workers{{state="desired"}} > 0 and {AT_WORK})'
"""Somebody wants the job to go on: a job at zero workers waits for a person."""


def mean(name: str) -> str:
    """Over five minutes and the newest steps in them: one step alone is no reason to call anybody."""
    return f"max by (job_id) (avg_over_time({name}[5m]))"


def counted(name: str, window: str, labels: str = "") -> str:
    """How often within `window`; 0 where it never happened."""
    chosen = f"{{{labels}}}" if labels else ""
    zero = f"or on (job_id) sum by (job_id) (0 * {STEP})"
    return f"(sum by (job_id) (increase({name}{chosen}[{window}])) {zero})"


def share(part: str, name: str, window: str) -> str:
    """Of what a counter counted within `window`."""
    return f"{part} / sum by (job_id) (clamp_min(increase({name}[{window}]), 1))"

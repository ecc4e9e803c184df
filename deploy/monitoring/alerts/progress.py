"""Steps, queues, waits, and what is lost on the way."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert
from deploy.monitoring.alerts.phrases import AT_WORK, JOB, TIME, WANTED, counted
from deploy.monitoring.promql import STEP_INTERVAL
from services.drift import thresholds

USUAL_STEP = f"clamp(quantile_over_time(0.5, {STEP_INTERVAL}[1d]), 60, 3600)"
"""The median of a day. Ten times its lower bound is time enough for a restart; the upper one keeps a job that was
paused for days from being its own measure."""
WASTED = counted("sspo_tokens_wasted_total", "15m", 'reason!~"job_end|weights_changed"')

ALERTS = (
    Alert(
        name="SspoNoStep",
        severity="critical",
        measured=f"max by (job_id) (time() - {TIME}) / {USUAL_STEP}",
        comparison=">",
        threshold=10,
        when=WANTED,
        lasting="10m",
        summary=f"{JOB} makes no steps any more",
        description="The newest step is {{ $value | humanize }} times as old as a usual step takes.",
    ),
    Alert(
        name="SspoJobFailed",
        severity="warning",
        measured='max(delta(sspo_jobs{status="failed"}[15m]))',
        comparison=">",
        threshold=0,
        lasting="0m",
        summary="A job has failed",
        description="GET /v1/fine_tuning/jobs says which, and its error why.",
    ),
    Alert(
        name="SspoJobWaiting",
        severity="warning",
        measured="max by (job_id) (sspo_job_waiting_seconds)",
        comparison=">",
        threshold=1800,
        when=WANTED,
        lasting="1m",
        summary=f"{JOB} has been waiting for the same thing for long",
        description="For {{ $value | humanizeDuration }}; GET /v1/x/jobs/{{ $labels.job_id }} says for what.",
    ),
    Alert(
        name="SspoQueueOld",
        severity="warning",
        measured='max by (job_id, queue) (sspo_queue_oldest_seconds{queue=~"prompts|trajectories|scored"})',
        comparison=">",
        threshold=1800,
        when=WANTED,
        lasting="5m",
        summary=f"{JOB}: nobody takes groups out of the queue {{{{ $labels.queue }}}}",
        description="Its oldest entry is {{ $value | humanizeDuration }} old.",
    ),
    Alert(
        name="SspoGroupsMissing",
        severity="critical",
        measured="max by (job_id) (sspo_groups_missing)",
        comparison=">",
        threshold=0,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB} has lost groups",
        description="{{ $value }} groups are neither finished nor in any queue.",
    ),
    Alert(
        name="SspoDeadLetters",
        severity="warning",
        measured='max by (job_id) (delta(sspo_queue_entries{queue="dead"}[15m]))',
        comparison=">",
        threshold=0,
        lasting="0m",
        summary=f"{JOB} met messages that nobody can read",
        description="About {{ $value | humanize }} dead letters came within 15 minutes.",
    ),
    Alert(
        name="SspoTokensWasted",
        severity="warning",
        measured=f"{WASTED} / ({WASTED} + sum by (job_id) (clamp_min(increase(sspo_learner_tokens_total[15m]), 1)))",
        comparison=">",
        threshold=thresholds.WASTED_SHARE,
        when=AT_WORK,
        lasting="15m",
        summary=f"{JOB} samples much that it never trains",
        description="{{ $value | humanizePercentage }} of sampled tokens were wasted in the last 15 minutes.",
    ),
)

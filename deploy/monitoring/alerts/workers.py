"""Workers and graders, and the service itself."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert
from deploy.monitoring.alerts.phrases import AT_WORK, JOB, counted, share
from services.drift import thresholds


def absent(kind: str) -> str:
    """Workers that are wanted and not there. One that loads weights is there."""
    there = f'sum by (job_id) (sspo_{kind}_workers{{state=~"ready|syncing"}})'
    return f'sum by (job_id) (sspo_{kind}_workers{{state="desired"}}) - {there}'


WORKERS = (
    Alert(
        name="SspoRolloutWorkersMissing",
        severity="warning",
        measured=absent("rollout"),
        comparison=">",
        threshold=0,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB} has fewer rollout workers than it should",
        description="{{ $value }} of them are not ready.",
    ),
    Alert(
        name="SspoRewardWorkersMissing",
        severity="warning",
        measured=absent("reward"),
        comparison=">",
        threshold=0,
        when=AT_WORK,
        lasting="5m",
        summary=f"{JOB} has fewer reward workers than it should",
        description="{{ $value }} of them are not ready.",
    ),
    Alert(
        name="SspoWorkersRestarting",
        severity="warning",
        measured="sum by (job_id, kind) (increase(sspo_worker_restarts_total[15m]))",
        comparison=">",
        threshold=3,
        lasting="0m",
        summary=f"{JOB}: {{{{ $labels.kind }}}} workers die again and again",
        description="About {{ $value | humanize }} of them were replaced within 15 minutes.",
    ),
    Alert(
        name="SspoCanaryFailed",
        severity="critical",
        measured="max by (job_id) (increase(sspo_canary_failures_total[15m]))",
        comparison=">",
        threshold=0,
        lasting="0m",
        summary=f"{JOB}: an engine did not have the weights it was given",
        description="Its canary failed. It was replaced, and nothing it sampled under them is trained on.",
    ),
    Alert(
        name="SspoGraderErrors",
        severity="warning",
        measured=share(counted("sspo_grader_errors_total", "10m"), "sspo_grader_seconds_count", "10m"),
        comparison=">",
        threshold=thresholds.GRADER_FAILED,
        lasting="5m",
        summary=f"{JOB}: graders fail",
        description="{{ $value | humanizePercentage }} of grader calls failed in the last 10 minutes.",
    ),
)
SERVICE = (
    Alert(
        name="SspoApiDown",
        severity="critical",
        measured='up{job="sspo-api"}',
        comparison="==",
        threshold=0,
        lasting="1m",
        summary="The SSPO API does not answer",
        description="{{ $labels.instance }} has no page of metrics. Jobs go on without it.",
    ),
    Alert(
        name="SspoScrapeTargetDown",
        severity="warning",
        measured='up{job="sspo-workers"}',
        comparison="==",
        threshold=0,
        lasting="5m",
        summary="A worker's page of metrics does not answer",
        description="{{ $labels.kind }} {{ $labels.worker }} at {{ $labels.instance }}.",
    ),
    Alert(
        name="SspoStoreDown",
        severity="critical",
        measured="sspo_store_up",
        comparison="==",
        threshold=0,
        lasting="1m",
        summary="Redis does not answer the SSPO API",
        description="No job goes on without it; nothing is lost.",
    ),
)

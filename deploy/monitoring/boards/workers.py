"""Workers and sync: who is there, with which weights, and what engines and nodes say of themselves."""

from __future__ import annotations

from deploy.monitoring.boards import engines
from deploy.monitoring.boards.common import ANNOTATIONS, JOBS, quantiles, rate
from deploy.monitoring.model import Dashboard, Panel, Query, Row


def states(title: str, name: str, told: str) -> Panel:
    return Panel(title, (Query(f"{name}{{@}}", "{{state}} {{job_id}}"),), told)


CREW = Row(
    "Who is there",
    (
        states(
            "Rollout workers",
            "sspo_rollout_workers",
            "By state, with what is desired. syncing: loading weights; such a worker comes back by itself.",
        ),
        states("Reward workers", "sspo_reward_workers", "By state, with what is desired."),
        states("Learner", "sspo_learner_workers", "By state. A job has one; none for a moment while it is replaced."),
        Panel(
            "Replaced workers",
            (Query("sspo_worker_restarts_total{@}", "{{kind}} {{job_id}}"),),
            "Workers that died or hung and were replaced. The event says why: `GET /v1/fine_tuning/jobs/ID/events`.",
        ),
        Panel(
            "Scrape targets",
            (Query('sum by (job, kind) (up{job=~"sspo-.+"})', "{{job}} {{kind}}"),),
            "Pages of metrics that answer, by kind.",
        ),
        Panel(
            "Time of a scrape",
            (Query('max by (job, kind) (scrape_duration_seconds{job=~"sspo-.+"})', "{{job}} {{kind}}"),),
            "The slowest page of each kind.",
            unit="s",
        ),
    ),
)

SYNC = Row(
    "Weights",
    (
        Panel(
            "Versions",
            (
                Query("sspo_policy_version{@}", "newest {{job_id}}"),
                Query("sspo_worker_policy_version_min{@}", "oldest in use {{job_id}}"),
            ),
            "The newest published version, and the oldest among ready rollout workers.",
        ),
        Panel(
            "Versions behind",
            (
                Query(
                    "max by (job_id) (sspo_policy_version{@}) - min by (job_id) (sspo_worker_policy_version_min{@})",
                    "{{job_id}}",
                ),
            ),
            "0 to 2. More, steadily: a worker loads more slowly than the learner publishes; look at the sync time.",
        ),
        Panel(
            "Sync: seconds",
            quantiles("sspo_weight_sync_seconds"),
            "From reading a version to its canary's answer. A rollout worker samples nothing new meanwhile.",
            unit="s",
        ),
        Panel(
            "Sync: share of a worker's time",
            (Query("sum by (job_id, worker) (rate(sspo_weight_sync_seconds_sum{@}[$__rate_interval]))", "{{worker}}"),),
            "Above a half, publish less often or use faster disks.",
            unit="percentunit",
        ),
        Panel(
            "Sync: bytes a second",
            (Query(rate("sspo_weight_sync_bytes_total")),),
            "Of the versions that were loaded, all workers together.",
            unit="Bps",
        ),
        Panel(
            "Failures",
            (
                Query(rate("sspo_weight_sync_failures_total", "cause"), "load: {{cause}} {{job_id}}"),
                Query("sspo_canary_failures_total{@}", "canaries so far {{job_id}}"),
            ),
            "Loads that failed, a second; and how often an engine did not answer as its weights must. Such a worker is "
            "replaced, and nothing it sampled is trained on.",
        ),
        Panel(
            "Checkpoint",
            (Query("sspo_checkpoint_step{@}", "newest {{job_id}}"), Query("sspo_learner_step{@}", "step {{job_id}}")),
            "Steps in the newest checkpoint; what lies behind it is replayed from the journal after a crash.",
        ),
    ),
)

DASHBOARD = Dashboard(
    "sspo-workers",
    "SSPO: workers and sync",
    "Who is there, with which weights, how weights get there, and what engines and nodes say of themselves.",
    (CREW, SYNC, *engines.ROWS),
    (JOBS,),
    ANNOTATIONS,
)

"""Throughput and waits: what comes out, where groups are, and what the learner waits for."""

from __future__ import annotations

from deploy.monitoring.boards.common import ANNOTATIONS, JOBS, quantiles, rate, total
from deploy.monitoring.model import RED, Dashboard, Panel, Query, Row
from deploy.monitoring.promql import STEP_INTERVAL
from services.drift import thresholds

WASTED = (
    f"({rate('sspo_tokens_wasted_total')}) "
    "/ (sum by (job_id) (rate(sspo_learner_tokens_total{@}[$__rate_interval])) "
    f"+ ({rate('sspo_tokens_wasted_total')}))"
)

OUT = Row(
    "What comes out",
    (
        Panel(
            "Tokens a second",
            (
                Query(rate("sspo_learner_tokens_total"), "trained {{job_id}}"),
                Query(rate("sspo_rollout_completion_tokens_total"), "sampled {{job_id}}"),
            ),
            "Completion tokens. Trained and sampled run alike in a job that wastes nothing.",
        ),
        Panel(
            "Groups a second",
            (
                Query(rate("sspo_groups_issued_total"), "issued {{job_id}}"),
                Query(rate("sspo_rollout_groups_total"), "sampled {{job_id}}"),
                Query(rate("sspo_groups_trained_total"), "trained {{job_id}}"),
            ),
            "One group is all completions of one prompt.",
        ),
        Panel(
            "Steps",
            (
                Query("sspo_learner_step{@}", "done {{job_id}}"),
                Query("sspo_learner_steps_wanted{@}", "wanted {{job_id}}"),
            ),
            "Committed steps, and those the job ends after.",
        ),
        Panel(
            "Seconds a step",
            (
                Query("sspo_learner_step_seconds{@}", "training {{job_id}}"),
                Query(f"{STEP_INTERVAL}{{@}}", "with waits, mean of ten minutes {{job_id}}"),
            ),
            "The newest step from batch to record, and the time from one step to the next.",
            unit="s",
        ),
        Panel(
            "Seconds a step: percentiles",
            quantiles("sspo_learner_step_duration_seconds"),
            "From batch to record, over the steps of the last minutes.",
            unit="s",
        ),
        Panel(
            "Completion length",
            (Query("sspo_completion_tokens_mean{@}"),),
            "Tokens a completion, mean of the newest step. Growing answers slow every stage down.",
        ),
    ),
)

WAITS = Row(
    "Why it is waiting",
    (
        Panel(
            "Share of time the learner waits, by cause",
            (Query(rate("sspo_learner_wait_seconds_total", "cause"), "{{cause}} {{job_id}}"),),
            "batch: for graded groups. staleness: a batch is there, and groups are awaited that would become too old. "
            "publish: for weights to be written. checkpoint: for a checkpoint. Training takes the rest. Mostly "
            "batch: add rollout workers, or reward workers if the queue `trajectories` is long.",
            unit="percentunit",
            stacked=True,
            width=12,
        ),
        Panel(
            "Waiting for the same thing since",
            (Query("sspo_job_waiting_seconds{@}"),),
            "How long the job has been waiting for what it waits for now; `GET /v1/x/jobs/ID` says what it is.",
            unit="s",
            width=12,
        ),
    ),
)

QUEUES = Row(
    "Where groups are",
    (
        Panel(
            "Entries",
            (Query("sspo_queue_entries{@}", "{{queue}} {{job_id}}"),),
            "prompts wait for or are at a rollout worker, trajectories at a reward worker, scored at the learner. The "
            "longest queue stands in front of the slowest stage.",
        ),
        Panel(
            "Held by a worker",
            (Query("sspo_queue_pending_entries{@}", "{{queue}} {{job_id}}"),),
            "Entries that a worker has under a lease now.",
        ),
        Panel(
            "Age of the oldest entry",
            (Query("sspo_queue_oldest_seconds{@}", "{{queue}} {{job_id}}"),),
            "Grows without end where nobody takes anything out any more.",
            unit="s",
        ),
        Panel(
            "Bytes",
            (Query("sspo_queue_bytes{@}", "{{queue}} {{job_id}}"),),
            "Payloads in Redis. Above `learner.max_queued_bytes` no more groups are issued.",
            unit="bytes",
        ),
        Panel(
            "In flight, missing",
            (
                Query("sspo_groups_in_flight{@}", "in flight {{job_id}}"),
                Query("sspo_groups_missing{@}", "missing {{job_id}}"),
            ),
            "Groups that are issued and neither trained nor dropped. Missing is 0, or something is wrong.",
        ),
        Panel(
            "Taken over from the dead",
            (Query(rate("sspo_queue_redelivered_total", "queue"), "{{queue}} {{job_id}}"),),
            "Entries a second whose worker died or hung and that another one took.",
        ),
    ),
)

LOST = Row(
    "What is lost on the way",
    (
        Panel(
            "Share of sampled tokens that nobody trains",
            (Query(WASTED),),
            "Tokens of groups that were dropped, sampled twice, or handed over too late.",
            unit="percentunit",
            limits=((thresholds.WASTED_SHARE, RED),),
        ),
        Panel(
            "Wasted tokens, by reason",
            (Query(total("sspo_tokens_wasted_total", "reason"), "{{reason}} {{job_id}}"),),
            "stale: lower staleness or use fewer rollout workers. lost_lease: a worker was slower than its lease. "
            "weights_changed: an evaluation was run again. duplicate, job_end: of no concern.",
        ),
        Panel(
            "Dropped groups, by reason",
            (Query(total("sspo_groups_dropped_total", "reason"), "{{reason}} {{job_id}}"),),
            "A group is trained once or dropped for one of these reasons.",
        ),
        Panel(
            "Dead letters",
            (
                Query(total("sspo_dead_letter_total", "reason"), "{{reason}} {{job_id}}"),
                Query("sspo_dead_letters_forgotten_total{@}", "forgotten {{job_id}}"),
            ),
            "Messages nobody could read; `GET /v1/x/jobs/ID/dead_letters` shows them.",
        ),
    ),
)

SECONDS = "sum by (le, route) (rate(http_request_duration_seconds_bucket[$__rate_interval]))"
API = Row(
    "The API",
    (
        Panel("Jobs", (Query("sspo_jobs", "{{status}}"),), "Jobs by status.", width=6),
        Panel(
            "Requests a second",
            (
                Query(
                    "sum by (route, code) (rate(http_request_duration_seconds_count[$__rate_interval]))",
                    "{{route}} {{code}}",
                ),
            ),
            "By route and answer.",
            width=6,
        ),
        Panel(
            "95th percentile of requests",
            (Query(f"histogram_quantile(0.95, {SECONDS})", "{{route}}"),),
            "Seconds from request to answer. `/metrics` reads Redis for every job that runs.",
            unit="s",
            width=6,
        ),
        Panel(
            "Store",
            (Query("sspo_store_up", "Redis"), Query('up{job="sspo-api"}', "API")),
            "1: it answered the newest scrape.",
            kind="stat",
            width=6,
            below=RED,
            limits=((1.0, "green"),),
        ),
    ),
)

DASHBOARD = Dashboard(
    "sspo-throughput",
    "SSPO: throughput and waits",
    "What comes out of the jobs, where their groups are, what the learner waits for, and what is lost.",
    (OUT, WAITS, QUEUES, LOST, API),
    (JOBS,),
    ANNOTATIONS,
)

"""Graders: what they say, how long they take, how often they fail."""

from __future__ import annotations

from deploy.monitoring.boards.common import ANNOTATIONS, JOBS, heat, quantiles, rate, share, total
from deploy.monitoring.model import AMBER, RED, Dashboard, Panel, Query, Row
from services.drift import thresholds

REWARDS = Row(
    "What they say",
    (
        Panel(
            "Mean reward",
            (Query("sspo_reward_mean{@}"),),
            "Of the newest step. A sudden jump to the top can be a grader that is being tricked: read some samples.",
        ),
        Panel(
            "Spread of rewards",
            (Query("sspo_reward_std{@}"),),
            "Standard deviation over a step. Near 0 there is nothing to learn from.",
        ),
        Panel(
            "Groups whose rewards are all equal",
            (Query("sspo_reward_zero_variance_groups_ratio{@}"),),
            "They give no gradient. High at the start: the task is too hard. High at the end: it is solved.",
            unit="percentunit",
            limits=((thresholds.FLAT_GROUPS, AMBER),),
        ),
    ),
)

CALLS = Row(
    "How long they take",
    (
        Panel(
            "Calls a second",
            (Query(rate("sspo_grader_seconds_count", "grader"), "{{grader}} {{job_id}}"),),
            "One call grades one completion.",
        ),
        Panel(
            "Seconds a call",
            quantiles("sspo_grader_seconds", "grader"),
            "Percentiles by grader. Beyond `reward.timeout_seconds` a call fails.",
            unit="s",
            logarithmic=True,
        ),
        Panel("Calls by seconds", heat("sspo_grader_seconds"), "All graders together.", "heatmap"),
        Panel(
            "Busy reward workers",
            (
                Query("sum by (job_id) (rate(sspo_grader_seconds_sum{@}[$__rate_interval]))", "busy {{job_id}}"),
                Query('sspo_reward_workers{@, state="ready"}', "ready {{job_id}}"),
            ),
            "Graders that work at the same time, on average. Near the number of ready workers: add workers.",
        ),
        Panel(
            "Groups that wait for a grader",
            (Query('sspo_queue_entries{@, queue="trajectories"}', "{{job_id}}"),),
            "Grows when graders are the slowest stage.",
        ),
        Panel(
            "Age of the oldest of them",
            (Query('sspo_queue_oldest_seconds{@, queue="trajectories"}', "{{job_id}}"),),
            "Grows without end when no reward worker takes any.",
            unit="s",
        ),
    ),
)

ERRORS = Row(
    "How often they fail",
    (
        Panel(
            "Share of calls that failed",
            (Query(share("sspo_grader_errors_total", "sspo_grader_seconds_count")),),
            "A failed grader is never a reward: the call is tried again, and then the group is dropped.",
            unit="percentunit",
            limits=((thresholds.GRADER_FAILED, RED),),
        ),
        Panel(
            "Errors a second",
            (Query(rate("sspo_grader_errors_total", "grader", "error"), "{{grader}} {{error}} {{job_id}}"),),
            "By grader and by name of the error.",
        ),
        Panel(
            "Groups dropped",
            (Query(total("sspo_groups_dropped_total", "reason"), "{{reason}} {{job_id}}"),),
            "grader_failed are those that graders cost.",
        ),
    ),
)

DASHBOARD = Dashboard(
    "sspo-graders",
    "SSPO: graders",
    "What graders say, how long they take, and how often they fail.",
    (REWARDS, CALLS, ERRORS),
    (JOBS,),
    ANNOTATIONS,
)

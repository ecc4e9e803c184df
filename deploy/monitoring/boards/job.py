"""One job in depth: is it well, does it learn, how far is it, what holds it up."""

from __future__ import annotations

from deploy.monitoring.boards import drift
from deploy.monitoring.boards import drift_words as words
from deploy.monitoring.boards.common import ANNOTATIONS, ONE_JOB, low, rate, total
from deploy.monitoring.model import AMBER, GREEN, RED, Dashboard, Limits, Panel, Query, Row
from deploy.monitoring.promql import STEP_INTERVAL
from services.job import guard

ALERTS = 'count(ALERTS{alertstate="firing", job_id=~"$job|"}) or vector(0)'
LEFT = (
    "(max by (job_id) (sspo_learner_steps_wanted{@}) - max by (job_id) (sspo_learner_step{@})) "
    f"* {STEP_INTERVAL}{{@}}"
)


def number(title: str, expr: str, told: str, unit: str = "short", below: str = GREEN, limits: Limits = ()) -> Panel:
    return Panel(title, (Query(expr, ""),), told, "stat", unit, width=3, height=4, below=below, limits=limits)


NOW = Row(
    "Now",
    (
        number("Step", "sspo_learner_step{@}", "Committed steps."),
        number("Of", "sspo_learner_steps_wanted{@}", "Steps the job ends after."),
        number("Left", LEFT, "Steps left, at the pace of the last ten minutes.", "s"),
        number("Reward", "sspo_reward_mean{@}", "Mean of the newest step."),
        number(
            "Waiting",
            "sspo_job_waiting_seconds{@}",
            "For the same thing; `GET /v1/x/jobs/ID` says for what.",
            "s",
            limits=((300.0, AMBER), (1800.0, RED)),
        ),
        number(
            "Rollout workers",
            'sum by (job_id) (sspo_rollout_workers{@, state=~"ready|syncing"})',
            "Ready, or loading the next weights.",
            below=RED,
            limits=((1.0, GREEN),),
        ),
        number("Groups missing", "sspo_groups_missing{@}", "0 unless something is wrong.", limits=((1.0, RED),)),
        number("Alerts", ALERTS, "Firing for this job, or for no job in particular.", limits=((1.0, RED),)),
    ),
)

LEARNING = Row(
    "Does it learn",
    (
        Panel(
            "Reward",
            (Query("sspo_reward_mean{@}", "mean"), Query("sspo_reward_std{@}", "standard deviation")),
            "Of the groups of each step.",
        ),
        Panel(
            "Loss",
            (Query("sspo_learner_loss{@}", "loss"),),
            "Mean over the updates of a step. It need not fall: look at the reward.",
        ),
        Panel(
            "Gradient norm",
            (Query("sspo_grad_norm{@}", "before clipping"),),
            "Spikes are clipped; a rise over many steps comes before instability.",
        ),
        Panel(
            "Learning rate",
            (Query("sspo_learning_rate{@}", "learning rate"),),
            "With warmup, and what a guard changed.",
        ),
        Panel("Completion length", (Query("sspo_completion_tokens_mean{@}", "tokens"),), "Tokens a completion."),
        Panel(
            "Skipped updates",
            (Query("sspo_skipped_updates{@}", "so far"),),
            "Updates whose gradient was not finite. More than a few: look at the learning rate and at the samples.",
        ),
    ),
)

DRIFT = Row(
    "How far it drifts",
    (
        drift.outside("timeseries", 8, 8),
        Panel(
            "Effective samples",
            (
                Query("sspo_is_effective_sample_size_ratio{@}", "tokens"),
                Query("sspo_seq_is_effective_sample_size_ratio{@}", "sequences"),
            ),
            words.ESS_TOKEN,
            unit="percentunit",
            below=RED,
            limits=low(guard.ESS_TOKEN),
        ),
        Panel(
            "k3: all, and of the engine",
            (Query("sspo_kl_behaviour_k3{@}", "all"), Query("sspo_engine_mismatch_kl_k3{@}", "engine")),
            words.K3,
            logarithmic=True,
        ),
        Panel(
            "Tokens of the newest step by ratio",
            (Query("sum by (le) (sspo_is_ratio_tokens{@})", "{{le}}"),),
            words.NEWEST,
            "bargauge",
        ),
        Panel(
            "Staleness",
            (
                Query("sspo_staleness_steps_mean{@}", "trained, mean"),
                Query("sspo_staleness_steps_max{@}", "trained, largest"),
                Query("sspo_staleness_in_flight_steps_max{@}", "being sampled"),
                Query("sspo_staleness_queued_steps_max{@}", "waiting"),
            ),
            words.STALENESS,
        ),
        Panel(
            "What an explanation finds",
            (Query(total("sspo_finding", "finding"), "{{finding}}"),),
            "Warnings and errors of `sspo job explain ID`, which says them in words; a flat 0 is a job without any.",
        ),
        Panel(
            "Gate weights",
            (
                Query("sspo_gate_weight_positive_mean{@}", "positive advantage"),
                Query("sspo_gate_weight_negative_mean{@}", "negative advantage"),
                Query("sspo_gate_saturated_ratio{@}", "saturated"),
            ),
            "By what token gradients are multiplied, and the share of tokens that lost nine tenths of it.",
        ),
    ),
)

FLOW = Row(
    "What holds it up",
    (
        Panel(
            "Share of time waiting, by cause",
            (Query(rate("sspo_learner_wait_seconds_total", "cause"), "{{cause}}"),),
            "The rest of the time it trains.",
            unit="percentunit",
            stacked=True,
        ),
        Panel(
            "Queues", (Query("sspo_queue_entries{@}", "{{queue}}"),), "The longest is in front of the slowest stage."
        ),
        Panel(
            "Workers",
            (
                Query("sspo_rollout_workers{@}", "rollout {{state}}"),
                Query("sspo_reward_workers{@}", "reward {{state}}"),
            ),
            "By state, with what is desired.",
        ),
        Panel(
            "Tokens a second",
            (
                Query(rate("sspo_learner_tokens_total"), "trained"),
                Query(rate("sspo_rollout_completion_tokens_total"), "sampled"),
            ),
            "Completion tokens.",
        ),
        Panel(
            "Weights",
            (Query("sspo_policy_version{@}", "newest"), Query("sspo_worker_policy_version_min{@}", "oldest in use")),
            "Versions.",
        ),
        Panel(
            "Lost on the way",
            (
                Query(rate("sspo_tokens_wasted_total", "reason"), "tokens wasted: {{reason}}"),
                Query(rate("sspo_worker_restarts_total", "kind"), "workers replaced: {{kind}}"),
            ),
            "A second.",
        ),
    ),
)

DASHBOARD = Dashboard(
    "sspo-job",
    "SSPO: one job",
    "One job in depth: is it well, does it learn, how far is it, what holds it up.",
    (NOW, LEARNING, DRIFT, FLOW),
    (ONE_JOB,),
    ANNOTATIONS,
)

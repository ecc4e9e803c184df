"""Common parts of all dashboards: the choice of jobs, lines at events, and phrases of PromQL."""

from __future__ import annotations

from deploy.monitoring.model import AMBER, GREEN, RED, Annotation, Limits, Query, Variable
from services.job.guard import Limit

JOBS = Variable("job", "Job", "label_values(sspo_learner_step, job_id)", several=True, newest_first=True)
ONE_JOB = Variable("job", "Job", "label_values(sspo_learner_step, job_id)", newest_first=True)
ANNOTATIONS = (
    Annotation(
        "scale",
        'changes(sspo_rollout_workers{@, state="desired"}[30s]) > 0 '
        'or changes(sspo_reward_workers{@, state="desired"}[30s]) > 0',
        "blue",
        "scaled",
    ),
    # Off at first: a small job publishes weights every second, and lines would cover everything.
    Annotation("sync", "changes(sspo_policy_version{@}[30s]) > 0", "purple", "new weights", shown=False),
    Annotation("restart", "changes(sspo_worker_restarts_total{@}[30s]) > 0", "orange", "replaced", "job_id,kind"),
    Annotation("checkpoint", "changes(sspo_checkpoint_step{@}[30s]) > 0", "green", "checkpoint"),
    # The empty alternative keeps alerts that are not of one job.
    Annotation("alert", 'ALERTS{alertstate="firing", job_id=~"$job|"}', "red", "{{alertname}}", "job_id,severity"),
)
ELSE_ZERO = "or on (job_id) sum by (job_id) (0 * sspo_learner_step{@})"
"""What was never counted for a job has no series of its own."""


def rate(name: str, *by: str) -> str:
    """Events a second by job and by labels of the metric; 0 where nothing was counted so far."""
    return f"sum by ({', '.join(('job_id', *by))}) (rate({name}{{@}}[$__rate_interval])) {ELSE_ZERO}"


def total(name: str, *by: str) -> str:
    """The same without the rate."""
    return f"sum by ({', '.join(('job_id', *by))}) ({name}{{@}}) {ELSE_ZERO}"


def share(part: str, whole: str) -> str:
    """Quotient of two rates by job."""
    return f"({rate(part)}) / sum by (job_id) (rate({whole}{{@}}[$__rate_interval]))"


def quantiles(histogram: str, *by: str) -> tuple[Query, ...]:
    """Median, 95th and 99th percentile of a histogram."""
    counted = f"sum by ({', '.join(('le', *by))}) (rate({histogram}_bucket{{@}}[$__rate_interval]))"
    names = "".join(f" {{{{{label}}}}}" for label in by)
    return tuple(
        Query(f"histogram_quantile({quantile}, {counted})", f"p{quantile * 100:g}{names}")
        for quantile in (0.5, 0.95, 0.99)
    )


def heat(histogram: str, labels: str = "") -> tuple[Query, ...]:
    """A histogram's buckets over time, for a heat map."""
    chosen = f"@, {labels}" if labels else "@"
    return (Query(f"sum by (le) (increase({histogram}_bucket{{{chosen}}}[$__rate_interval]))", "{{le}}"),)


def figure(name: str) -> tuple[Query, ...]:
    """One gauge, a line a job."""
    return (Query(f"{name}{{@}}"),)


def figures(**names: str) -> tuple[Query, ...]:
    """Several gauges, legend to name."""
    return tuple(Query(f"{name}{{@}}", f"{legend} {{{{job_id}}}}") for legend, name in names.items())


def high(at: Limit) -> Limits:
    """Limits of a figure that is bad when high."""
    return (at.leave, AMBER), (at.enter, RED)


def low(at: Limit) -> Limits:
    """Limits of a figure that is bad when low; red below them."""
    return (at.enter, AMBER), (at.leave, GREEN)

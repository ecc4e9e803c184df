"""Rules on how far the policy has moved away from its samples: steps that are too large, weights that come late, queues
that are too long."""

from __future__ import annotations

from collections.abc import Sequence

from services.drift import thresholds as at
from services.drift.findings import Finding, Rule, Surroundings, mean, weighted
from services.job.spec import JobSpec
from services.records.step import StepRecord


def by_bucket(window: Sequence[StepRecord]) -> dict[tuple[int, int], float]:
    """k3 by (staleness, update), over the window."""
    seen: dict[tuple[int, int], list[tuple[float, float | None]]] = {}
    for record in window:
        for staleness, update, figures in record.drift.by_bucket():
            seen.setdefault((staleness, update), []).append((figures.tokens or 0.0, figures.kl_k3))
    return {bucket: value for bucket, pairs in sorted(seen.items()) if (value := weighted(pairs)) is not None}


def update_kl_k3(buckets: dict[tuple[int, int], float]) -> float | None:
    """k3 that one more update of a step adds, at the smallest staleness; None with one update a step."""
    youngest = min((staleness for staleness, _ in buckets), default=0)
    last = max((update for staleness, update in buckets if staleness == youngest), default=0)
    if last == 0 or (youngest, 0) not in buckets:
        return None
    return (buckets[youngest, last] - buckets[youngest, 0]) / last


def step_kl_k3(buckets: dict[tuple[int, int], float], engine: float) -> float | None:
    """k3 that one step of staleness adds to the engine's; None if nothing is stale."""
    stale = [max(0.0, value - engine) / staleness for (staleness, _), value in buckets.items() if staleness > 0]
    return mean(stale)


def learning_rate_too_high(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """The policy moves too far, in a step or from step to step."""
    buckets = by_bucket(window)
    engine = mean([record.drift.mismatch_kl_k3 for record in window]) or 0.0
    in_step, per_step = update_kl_k3(buckets), step_kl_k3(buckets, engine)
    rate = mean([record.learning_rate for record in window])
    evidence = {"kl_k3_per_update": in_step, "kl_k3_per_step_of_staleness": per_step, "learning_rate": rate}
    youngest = min((staleness for staleness, _ in buckets), default=0)
    noticed = max(at.WITHIN_STEP_KL_K3, buckets.get((0, 0), 0.0))  # where the engine differs more, it is the engine
    if in_step is not None and in_step > noticed and youngest == 0:
        text = (
            f"Within one step, on samples of the newest weights, each update adds {in_step:.2g} to k3: updates move "
            "the policy, not old samples. Lower learner.learning_rate, or learner.updates_per_step."
        )
    elif youngest > 0 and per_step is not None and per_step > at.PER_STEP_KL_K3:
        text = (
            f"Each step moves the policy by {per_step:.2g} in k3, so that even young samples are far off. Lower "
            "learner.learning_rate; less staleness would only hide it."
        )
    else:
        return None
    return Finding("learning_rate_too_high", "The learning rate is too high", text, "error", evidence)


def old_samples(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """Drift that comes from staleness: because engines get weights late, or because groups wait."""
    total = mean([record.drift.kl_k3 for record in window])
    staleness = mean([record.staleness_mean for record in window])
    lag = mean([record.weights_lag_mean for record in window]) or 0.0
    if staleness is None or total is None or total < at.NOTICED_KL_K3:
        return None
    evidence = {"staleness_mean": staleness, "weights_lag_mean": lag, "kl_k3": total}
    if lag >= at.LATE_STEPS:
        text = (
            f"Groups are sampled with weights {lag:.1f} steps older than those published when they were issued, and k3 "
            f"is {total:.2g} for it. Look at sspo_weight_sync_seconds and at the workers' policy_version: a "
            "slow disk or network, a load that hangs, or an engine that serves long completions in one go."
        )
        return Finding("weights_late", "New weights reach the engines late", text, "warn", evidence)
    if staleness >= at.STALE_STEPS and total >= at.STALE_KL_K3:
        text = (
            f"Samples are {staleness:.1f} steps old when they are trained, though engines had the newest weights: they "
            "wait in queues. Lower learner.max_staleness, or give the learner fewer rollout workers to outrun it."
        )
        return Finding("samples_wait", "Samples wait until they are old", text, "warn", evidence)
    return None


RULES: tuple[Rule, ...] = (learning_rate_too_high, old_samples)

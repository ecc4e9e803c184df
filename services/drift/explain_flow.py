"""Rules on the task, the gate, and the way of the groups: rewards, graders, queues, waits."""

from __future__ import annotations

from collections.abc import Sequence

from services.drift import thresholds as at
from services.drift.findings import Evidence, Finding, Rule, Surroundings, mean, percent
from services.job import guard
from services.job.spec import JobSpec
from services.records.step import GuardView, StepRecord

ENOUGH_STEPS = 4
"""For what a few steps say nothing about, such as waits: every job begins with one."""


def gate_saturated(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """The objective has taken most of the gradient away."""
    share = mean([record.drift.gate_saturated_ratio for record in window])
    if share is None or share < at.GATE_SATURATED:
        return None
    text = (
        f"On {percent(share)} of the tokens the gate leaves less than a tenth of the gradient, so little is learnt "
        "from them. The drift is too large for the gate, or the gate (tau_pos, tau_neg) too narrow for the drift."
    )
    return Finding("gate_saturated", "The gate is saturated", text, "warn", {"gate_saturated_ratio": share})


def flat_rewards(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """Groups that tell nothing."""
    share = mean([record.reward_zero_variance_groups_ratio for record in window])
    reward = mean([record.reward_mean for record in window])
    if share is None or share < at.FLAT_GROUPS:
        return None
    text = (
        f"In {percent(share)} of the groups all rewards are equal (mean reward {reward:.3g}): no gradient comes of "
        "them. The task is too hard or too easy as it stands, or the grader answers the same to everything: try it "
        "with POST /v1/fine_tuning/alpha/graders/run."
    )
    evidence: Evidence = {"reward_zero_variance_groups_ratio": share, "reward_mean": reward}
    return Finding("flat_rewards", "Rewards within groups are equal", text, "warn", evidence)


def reward_collapsed(records: Sequence[StepRecord], window_steps: int) -> Finding | None:
    """The reward is far below what it has been."""
    rewards = [record.reward_mean for record in records if record.reward_mean is not None]
    if len(rewards) < 2 * window_steps:
        return None
    means = [sum(rewards[i : i + window_steps]) / window_steps for i in range(len(rewards) - window_steps + 1)]
    best, now = max(means), means[-1]
    if best <= 0 or now >= guard.REWARD_SHARE.enter * best:
        return None
    text = (
        f"The mean reward is {now:.3g} and was {best:.3g} at its best. Go back to a checkpoint from before it "
        "fell, with a lower learning rate; the guard's rollback does that by itself."
    )
    evidence: Evidence = {"reward_mean": now, "best_reward_mean": best}
    return Finding("reward_collapsed", "The reward has collapsed", text, "error", evidence)


def queue_starves(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """The learner waits for others most of its time."""
    waited = sum(record.waits.batch or 0.0 for record in window)
    worked = sum(record.seconds or 0.0 for record in window)
    if len(window) < ENOUGH_STEPS or spec.learner.synchronous or waited + worked <= 0:
        return None
    share = waited / (waited + worked)
    if share < at.WAITING_SHARE:
        return None
    ungraded = around.in_streams.get("trajectories", 0) > around.in_streams.get("prompts", 0)
    kind = "reward" if ungraded else "rollout"
    text = (
        f"The learner waits for batches {percent(share)} of its time, and most groups wait for {kind} workers: more of "
        f"them would help (sspo job scale --{kind} N)."
    )
    evidence: Evidence = {"waiting_share": share, "in_streams": dict(around.in_streams)}
    return Finding("queue_starves", "The learner waits for samples", text, "info", evidence)


def graders_fail(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """Groups that are lost because nobody could grade them."""
    failed = around.dropped.get("grader_failed", 0)
    if not around.issued or failed / around.issued < at.GRADER_FAILED:
        return None
    text = (
        f"{failed} of {around.issued} groups were dropped because a grader failed {spec.reward.attempts} times. "
        "sspo_grader_errors_total says which error; a slow grader may need a larger reward.timeout_seconds."
    )
    return Finding("graders_fail", "Graders fail", text, "error", {"grader_failed": failed, "issued": around.issued})


def dead_letters(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """Messages that nobody could read."""
    count = sum(around.dead_letters.values())
    if not count:
        return None
    text = f"{count} messages could not be read or killed their workers; GET /v1/x/jobs/ID/dead_letters shows them."
    return Finding("dead_letters", "There are dead letters", text, "warn", {"dead_letters": dict(around.dead_letters)})


def wasted_tokens(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """Samples that nobody trains."""
    wasted = sum(around.wasted_tokens.values())
    total = wasted + around.trained_tokens
    if not total or wasted / total < at.WASTED_SHARE:
        return None
    reason, tokens = max(around.wasted_tokens.items(), key=lambda pair: pair[1])
    text = f"{percent(wasted / total)} of the sampled tokens were not trained, most of them ({tokens}) as {reason}."
    if reason == "stale":
        text += " Raise learner.max_staleness, or use staleness_policy wait."
    evidence: Evidence = {"wasted_tokens": dict(around.wasted_tokens), "trained_tokens": around.trained_tokens}
    return Finding("wasted_tokens", "Many samples are wasted", text, "warn", evidence)


def waiting(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """What a job waits for."""
    if not around.waits_for:
        return None
    stalled = around.status == "running" and around.waited_seconds > spec.learner.stall_seconds
    text = f"The job is {around.status} and waits for {around.waits_for} since {around.waited_seconds:.0f} s."
    evidence: Evidence = {"waits_for": around.waits_for, "seconds": around.waited_seconds}
    return Finding("waiting", "What the job waits for", text, "warn" if stalled else "info", evidence)


def guarded(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """What the guard has done."""
    latest = window[-1].guard if window else GuardView()
    if not latest.level and latest.learning_rate_factor >= 1.0:
        return None
    actions = [action for record in window for action in record.guard.actions]
    because = ", ".join(latest.reasons) or "the alarm is over"
    text = f"Level {latest.level} ({because}); in the last steps it did: {', '.join(actions) or 'nothing'}."
    if latest.learning_rate_factor < 1.0:
        text += f" The learning rate is {latest.learning_rate_factor:g} times what the job says."
    return Finding("guard_acts", "The guard is awake", text, "warn" if latest.level else "info", latest.plain())


RULES: tuple[Rule, ...] = (
    gate_saturated,
    flat_rewards,
    queue_starves,
    graders_fail,
    dead_letters,
    wasted_tokens,
    waiting,
    guarded,
)

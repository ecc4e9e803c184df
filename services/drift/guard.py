"""The drift guard: decides from a window of figures what to do about them. Plain functions of plain data.

An alarm begins when the mean of a figure over the window crosses `enter`, and ends when it is back within `leave`.
While it lasts the job's list of actions is climbed rung by rung, with `cooldown_steps` between two. When it has been
over for `cooldown_steps`, the guard is back at the bottom: the limit that `throttle` tightened returns to the job's
own, a lowered learning rate stays. The same window, state and spec give the same decision, so a learner that starts
again decides as its predecessor did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from services.job.guard import LOW_IS_BAD, GuardAction, GuardFigure, GuardSpec
from services.records.step import GuardView, StepFigures

LOWEST_FACTOR = 1 / 64
"""Below this share of the job's learning rate it is not lowered any more."""
REMEMBERED_STEPS = 16
"""Checkpoints that are known to be healthy."""
REPEATED: frozenset[GuardAction] = frozenset({"lower_lr", "rollback", "sync", "pause"})
"""As the last rung these are done again while the alarm lasts."""
FOR_MISMATCH: frozenset[GuardAction] = frozenset({"warn", "sync", "pause"})


class Figures(BaseModel):
    """Figures of one step for the guard; None: the step has no such figure."""

    model_config = ConfigDict(frozen=True)

    step: int
    """The step."""
    ess_token: float | None = None
    """Effective sample size of token ratios."""
    ess_sequence: float | None = None
    """The same of sequence ratios."""
    outside_band_ratio: float | None = None
    """Share of tokens with a ratio outside 0.9 to 1.1."""
    kl_k3: float | None = None
    """Drift, k3 in nats a token."""
    mismatch_kl_k3: float | None = None
    """The engine's part of it."""
    reward_mean: float | None = None
    """Mean reward of the batch."""
    staleness_max: float | None = None
    """Steps between sampling and training, largest."""

    @classmethod
    def of(cls, step: int, said: StepFigures) -> Figures:
        """From a step's figures or its record."""
        drift = said.drift
        return cls(
            step=step,
            ess_token=drift.ess_token,
            ess_sequence=drift.ess_sequence,
            outside_band_ratio=drift.outside_band_ratio,
            kl_k3=drift.kl_k3,
            mismatch_kl_k3=drift.mismatch_kl_k3,
            reward_mean=said.reward_mean,
            staleness_max=said.staleness_max,
        )


class GuardState(BaseModel):
    """The memory of the guard between two steps."""

    model_config = ConfigDict(frozen=True)

    level: int = 0
    """Rungs climbed in this alarm; 0: all is well."""
    alarms: tuple[GuardFigure, ...] = ()
    """Figures beyond their limits."""
    waited_steps: int | None = None
    """Since the last action; None: there was none."""
    throttled: bool = False
    """Staleness and updates are halved."""
    syncing: bool = False
    """Groups are issued for one step at a time until a batch is sampled wholly under the newest weights."""
    learning_rate_factor: float = 1.0
    """The factor on the learning rate so far."""
    rollbacks: int = 0
    """Rollbacks of the job so far."""
    best_reward: float | None = None
    """Best mean reward of a window; None before the first."""
    healthy: tuple[int, ...] = ()
    """Checkpoints, by their steps, that one may go back to."""


@dataclass(frozen=True)
class Reason:
    """A figure that is beyond its limit."""

    figure: GuardFigure
    value: float
    limit: float

    def __str__(self) -> str:
        return f"{self.figure} {self.value:.3g} {'below' if self.figure in LOW_IS_BAD else 'above'} {self.limit:.3g}"


@dataclass(frozen=True)
class Decision:
    """The decision after a step. `state` is for the next step; after a rollback, `rolled_back(state)` is."""

    state: GuardState
    action: GuardAction | None = None
    reasons: tuple[Reason, ...] = ()
    calmed: bool = False
    """The alarm is over and forgotten."""
    healthy: bool = True
    """No step of the window is beyond a limit by which an alarm would end."""

    def view(self) -> GuardView:
        """The guard's part of a step record."""
        return GuardView(
            level=self.state.level,
            actions=(self.action,) if self.action else (),
            reasons=tuple(str(reason) for reason in self.reasons),
            learning_rate_factor=self.state.learning_rate_factor,
        )


def decide(window: Sequence[Figures], state: GuardState, spec: GuardSpec) -> Decision:
    """Decide after the last step of `window`, which holds up to `spec.window_steps` steps, oldest first."""
    newest = window[-1]
    waited = None if state.waited_steps is None else state.waited_steps + 1
    ready = waited is None or waited >= spec.cooldown_steps
    full = len(window) >= spec.window_steps
    means = _means(window, state) if full else {}
    reasons = tuple(_reasons(means, state, spec))
    alarms = tuple(reason.figure for reason in reasons)
    syncing = state.syncing and newest.staleness_max != 0 and not ready
    known = state.model_copy(update={"alarms": alarms, "waited_steps": waited, "syncing": syncing})
    if full:
        known = known.model_copy(update={"best_reward": _best(window, state)})
    healthy = not reasons and _is_healthy(window, state, spec)
    if reasons and ready:
        action, level = _rung(state, spec, engine_only=alarms == ("mismatch_kl_k3",))
        return Decision(_after(action, level, known, spec), action, reasons, healthy=False)
    if not reasons and ready and state.level > 0:
        calm = known.model_copy(update={"level": 0, "throttled": False, "syncing": False})
        return Decision(calm, calmed=True, healthy=healthy)
    return Decision(known, reasons=reasons, healthy=healthy)


def checkpointed(state: GuardState, step: int) -> GuardState:
    """The state after a healthy checkpoint with `step` steps was written."""
    known = [one for one in state.healthy if one < step]
    return state.model_copy(update={"healthy": (*known, step)[-REMEMBERED_STEPS:]})


def rolled_back(state: GuardState, to_step: int, spec: GuardSpec) -> GuardState:
    """The state after going back to `to_step`: with a lower learning rate, else the same would happen again."""
    return state.model_copy(
        update={
            "alarms": (),
            "waited_steps": 0,
            "rollbacks": state.rollbacks + 1,
            "learning_rate_factor": _lower(state, spec),
            "healthy": tuple(step for step in state.healthy if step <= to_step),
        }
    )


def nowhere_to_go(state: GuardState, spec: GuardSpec) -> GuardState:
    """The state if no healthy checkpoint is kept: the next rung comes at once, or a cooldown if there is none."""
    level = state.level + 1
    return state.model_copy(update={"level": level} | ({} if level < len(spec.actions) else {"waited_steps": 0}))


def _means(window: Sequence[Figures], state: GuardState) -> dict[GuardFigure, float]:
    names: tuple[GuardFigure, ...] = ("ess_token", "ess_sequence", "outside_band_ratio", "kl_k3", "mismatch_kl_k3")
    found = {name: mean for name in names if (mean := _mean([getattr(one, name) for one in window])) is not None}
    reward = _mean([one.reward_mean for one in window])
    if reward is not None and state.best_reward is not None and state.best_reward > 0:
        found["reward_share"] = reward / state.best_reward
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _reasons(means: Mapping[GuardFigure, float], state: GuardState, spec: GuardSpec) -> list[Reason]:
    found = []
    for name, limit in spec.limits().items():
        edge = limit.leave if name in state.alarms else limit.enter
        if name in means and _beyond(name, means[name], edge):
            found.append(Reason(name, means[name], edge))
    return found


def _beyond(name: GuardFigure, value: float, edge: float) -> bool:
    return value < edge if name in LOW_IS_BAD else value > edge


def _best(window: Sequence[Figures], state: GuardState) -> float | None:
    known = [value for value in (state.best_reward, _mean([one.reward_mean for one in window])) if value is not None]
    return max(known, default=None)


def _is_healthy(window: Sequence[Figures], state: GuardState, spec: GuardSpec) -> bool:
    """Whether each step is within the limits that end an alarm.

    The reward is noisy, so its mean over all steps counts. Engine mismatch is left out, since it says nothing about the
    weights.
    """
    looked_at = [_means([one], GuardState()) for one in window]
    reward = _means(window, state).get("reward_share")
    if reward is not None:
        looked_at.append({"reward_share": reward})
    limits = {name: limit for name, limit in spec.limits().items() if name != "mismatch_kl_k3"}
    return not any(
        _beyond(name, value, limits[name].leave)
        for means in looked_at
        for name, value in means.items()
        if name in limits
    )


def _rung(state: GuardState, spec: GuardSpec, *, engine_only: bool) -> tuple[GuardAction | None, int]:
    """The next action, and the level it leads to; None when nothing is left to do."""
    for level in range(state.level, len(spec.actions)):
        action = spec.actions[level]
        if not engine_only or action in FOR_MISMATCH:
            break
    else:
        level, action = max(0, len(spec.actions) - 1), spec.actions[-1] if spec.actions else "warn"
        if action not in REPEATED or (engine_only and action not in FOR_MISMATCH):
            return None, state.level
    if action == "rollback":  # the rung is kept until the rollbacks are used up
        return ("pause", level + 1) if state.rollbacks >= spec.max_rollbacks else ("rollback", level)
    if action == "lower_lr" and state.learning_rate_factor <= LOWEST_FACTOR:
        return None, level + 1
    return action, level + 1


def _after(action: GuardAction | None, level: int, state: GuardState, spec: GuardSpec) -> GuardState:
    if action is None:
        return state.model_copy(update={"level": level})
    if action == "rollback":  # until it is done nothing has changed, so that one that was cut off is decided again
        return state.model_copy(update={"level": level})
    after = state.model_copy(update={"level": level, "waited_steps": 0})
    if action == "throttle":
        return after.model_copy(update={"throttled": True})
    if action == "lower_lr":
        return after.model_copy(update={"learning_rate_factor": _lower(state, spec)})
    if action == "sync":
        return after.model_copy(update={"syncing": True})
    if action == "pause":  # whoever resumes the job has looked at it: it begins at the bottom again
        return after.model_copy(update={"level": 0, "alarms": (), "throttled": False, "rollbacks": 0})
    return after


def _lower(state: GuardState, spec: GuardSpec) -> float:
    return max(LOWEST_FACTOR, state.learning_rate_factor * spec.learning_rate_factor)

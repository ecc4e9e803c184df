"""The guard and the reward: what was reached is remembered, however slowly it is lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.drift.guard import Decision, Figures, GuardState, decide
from services.job.guard import GuardSpec

SPEC = GuardSpec.model_validate(
    {"actions": ["warn"], "window_steps": 2, "cooldown_steps": 2, "reward_share": {"enter": 0.5, "leave": 0.8}}
)


def watch(rewards: Sequence[float | None], state: GuardState | None = None) -> list[Decision]:
    known, decisions = state or GuardState(), []
    figures = [Figures(step=step, reward_mean=reward) for step, reward in enumerate(rewards)]
    for end in range(1, len(figures) + 1):
        decisions.append(decide(figures[max(0, end - SPEC.window_steps) : end], known, SPEC))
        known = decisions[-1].state
    return decisions


def alarms(rewards: Sequence[float | None]) -> list[int]:
    return [step for step, decision in enumerate(watch(rewards)) if decision.action]


def test_a_reward_that_collapses_is_an_alarm() -> None:
    decisions = watch([1.0, 1.0, 0.2, 0.2])
    assert [decision.action for decision in decisions] == [None, None, None, "warn"]
    [reason] = decisions[-1].reasons
    assert (reason.figure, reason.value, reason.limit) == ("reward_share", pytest.approx(0.2), 0.5)
    assert "reward_share 0.2 below 0.5" in decisions[-1].view().reasons


def test_a_reward_that_is_lost_slowly_is_an_alarm_too() -> None:
    """Each window alone looks like the one before."""
    rewards = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4]
    assert alarms(rewards) == [11], "0.475 of the 0.975 that was reached"


def test_the_best_is_of_a_whole_window_and_only_grows() -> None:
    states = [decision.state.best_reward for decision in watch([9.0, 1.0, 1.0, 3.0, 1.0, None])]
    assert states == [None, 5.0, 5.0, 5.0, 5.0, 5.0], "one lucky step is no level that was reached"
    assert [decision.state.best_reward for decision in watch([1.0, 1.0, 2.0, 4.0])] == [None, 1.0, 1.5, 3.0]


def test_a_job_that_never_earned_anything_has_nothing_to_lose() -> None:
    assert alarms([0.0] * 6) == [] and alarms([-1.0, -1.0, -5.0, -5.0]) == [] and alarms([None] * 4) == []


def test_steps_below_what_was_reached_are_no_place_to_go_back_to() -> None:
    healthy = [decision.healthy for decision in watch([1.0, 1.0, 0.7, 0.7, 1.0, 1.0])]
    assert healthy == [True, True, True, False, True, True], "0.7 begins no alarm, and ends none"


def test_after_the_alarm_the_level_to_be_reached_is_still_the_old_one() -> None:
    decisions = watch([1.0, 1.0, 0.2, 0.2, 0.9, 0.9, 0.9, 0.2, 0.2])
    assert any(decision.calmed for decision in decisions)
    assert decisions[-1].action == "warn" and decisions[-1].state.best_reward == 1.0

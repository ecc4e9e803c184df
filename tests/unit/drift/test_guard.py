"""The guard on recorded jobs: alarms with hysteresis, a ladder with pauses between its rungs, an end to rollbacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.drift.guard import (
    LOWEST_FACTOR,
    Decision,
    Figures,
    GuardState,
    checkpointed,
    decide,
    nowhere_to_go,
    rolled_back,
)
from services.job.guard import GuardSpec
from services.job.spec import ExtensionSpec
from services.records.step import StepRecord

TRACES = Path(__file__).parent / "traces"
LADDER = ["warn", "throttle", "lower_lr", "rollback", "pause"]


def trace(name: str) -> list[Figures]:
    """The figures of a recorded job: see `benchmarks/drift_study`."""
    records = (StepRecord.model_validate(one) for one in json.loads((TRACES / f"{name}.json").read_text()))
    return [Figures.of(record.step, record) for record in records]


def spec_of(*actions: str, **changes: Any) -> GuardSpec:
    limits = {"window_steps": 2, "cooldown_steps": 2, "kl_k3": {"enter": 0.03, "leave": 0.01}}
    return GuardSpec.model_validate({"actions": actions or LADDER, **limits, **changes})


def watch(figures: Sequence[Figures], spec: GuardSpec, state: GuardState | None = None) -> list[Decision]:
    """All decisions on a job, as if nothing came of them."""
    known, decisions = state or GuardState(), []
    for end in range(1, len(figures) + 1):
        decisions.append(decide(figures[max(0, end - spec.window_steps) : end], known, spec))
        known = decisions[-1].state
    return decisions


def series(values: Sequence[float | None], name: str = "kl_k3", **others: float) -> list[Figures]:
    return [Figures(step=step, **{name: value, **others}) for step, value in enumerate(values)]


def actions(decisions: Sequence[Decision]) -> dict[int, str]:
    """Step → action."""
    return {step: decision.action for step, decision in enumerate(decisions) if decision.action}


def test_a_calm_job_is_left_alone() -> None:
    decisions = watch(trace("calm"), spec_of())
    assert not actions(decisions) and all(decision.healthy for decision in decisions)
    assert decisions[-1].state.level == 0 and decisions[-1].state.learning_rate_factor == 1.0
    assert not actions(watch(trace("calm"), GuardSpec())), "nor does the default see anything"


def test_a_learning_rate_that_is_too_high_climbs_the_ladder() -> None:
    decisions = watch(trace("learning_rate_too_high"), spec_of("warn", "throttle", "lower_lr", "rollback"))
    done = actions(decisions)
    assert list(done.values())[:4] == ["warn", "throttle", "lower_lr", "rollback"]
    assert list(done)[:4] == [1, 3, 5, 7], "a full window first, then a pause between two actions"
    assert "kl_k3" in str(decisions[1].reasons[0]) and "above 0.03" in str(decisions[1].reasons[0])
    assert decisions[5].state.throttled and decisions[5].state.learning_rate_factor == 0.5


def test_by_default_it_only_warns_and_only_once_an_alarm() -> None:
    decisions = watch(trace("learning_rate_too_high"), GuardSpec())
    assert set(actions(decisions).values()) == {"warn"} and len(actions(decisions)) == 1
    assert decisions[-1].state.learning_rate_factor == 1.0 and not decisions[-1].state.throttled


def test_a_reward_that_collapses_is_an_alarm_of_its_own() -> None:
    limits = dict.fromkeys(("kl_k3", "ess_token", "ess_sequence", "outside_band_ratio", "mismatch_kl_k3"))
    decisions = watch(trace("learning_rate_too_high"), spec_of("rollback", **limits))
    first = min(actions(decisions))
    assert decisions[first].reasons[0].figure == "reward_share" and decisions[first].reasons[0].value < 0.5
    assert not decisions[-1].healthy, "every figure of the importance ratios is fine again, and the policy is broken"


@pytest.mark.parametrize(
    ("values", "done", "calmed"),
    [
        ([0.0, 0.0, 0.02, 0.02, 0.02, 0.02], {}, False),
        ([0.0, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02], {2: "warn", 4: "throttle", 6: "lower_lr"}, False),
        ([0.0, 0.05, 0.05, 0.0, 0.0, 0.0], {2: "warn"}, True),
    ],
    ids=["below enter", "above leave", "within leave"],
)
def test_an_alarm_begins_at_one_limit_and_ends_at_another(
    values: list[float], done: dict[int, str], calmed: bool
) -> None:
    decisions = watch(series(values), spec_of())
    assert actions(decisions) == done
    assert any(decision.calmed for decision in decisions) == calmed


def test_calm_lifts_the_throttle_and_keeps_the_learning_rate() -> None:
    decisions = watch(series([0.05] * 6 + [0.0] * 6), spec_of())
    assert decisions[5].state.throttled and decisions[5].state.learning_rate_factor == 0.5
    last = decisions[-1].state
    assert not last.throttled and last.level == 0 and last.learning_rate_factor == 0.5


def test_rollbacks_are_bounded_and_then_the_job_is_paused() -> None:
    spec = spec_of("rollback", max_rollbacks=2)
    state, done, factors = GuardState(), [], []
    window: list[Figures] = []
    for step in range(20):
        window = [*window, Figures(step=step, kl_k3=1.0)][-2:]
        decision = decide(window, state, spec)
        state = decision.state
        if decision.action == "rollback":
            state, window = rolled_back(state, 0, spec), []
        if decision.action:
            done.append((step, decision.action))
            factors.append(state.learning_rate_factor)
        if decision.action == "pause":
            break
    assert done == [(1, "rollback"), (3, "rollback"), (5, "pause")]
    assert factors == [0.5, 0.25, 0.25], "each time with a lower learning rate, else the same would happen again"
    assert (state.level, state.alarms, state.rollbacks) == (0, (), 0), "who resumes the job has looked at it"


def test_a_rollback_that_was_cut_off_is_decided_again() -> None:
    figures, spec = series([1.0, 1.0, 1.0]), spec_of("rollback")
    assert actions(watch(figures, spec)) == {1: "rollback", 2: "rollback"}


def test_without_a_healthy_checkpoint_the_next_rung_is_taken() -> None:
    spec = spec_of("rollback", "pause")
    state = nowhere_to_go(watch(series([1.0, 1.0]), spec)[-1].state, spec)
    assert decide(series([1.0, 1.0]), state, spec).action == "pause"


def test_without_a_healthy_checkpoint_and_a_next_rung_it_is_tried_once_in_a_while() -> None:
    spec = spec_of("rollback")
    state, tried = watch(series([1.0, 1.0]), spec)[-1].state, 0
    for _ in range(12):
        decision = decide(series([1.0, 1.0]), state, spec)
        tried += decision.action == "rollback"
        state = nowhere_to_go(decision.state, spec) if decision.action == "rollback" else decision.state
    assert 0 < tried <= 1 + 12 // spec.cooldown_steps


def test_the_learning_rate_has_a_floor() -> None:
    decisions = watch(series([1.0] * 60), spec_of("lower_lr"))
    assert decisions[-1].state.learning_rate_factor == LOWEST_FACTOR and decisions[-1].action is None


def test_a_mismatch_is_no_reason_to_train_differently() -> None:
    figures = series([0.5] * 12, "mismatch_kl_k3")
    assert set(actions(watch(figures, spec_of("warn", "throttle", "lower_lr", "rollback"))).values()) == {"warn"}
    assert set(actions(watch(figures, spec_of("lower_lr"))).values()) == set()
    assert list(actions(watch(figures, spec_of("throttle", "sync", "pause"))).values())[:2] == ["sync", "pause"]
    assert all(decision.healthy is False for decision in watch(figures, spec_of("warn"))[1:])


def test_sync_lasts_until_a_batch_is_fresh() -> None:
    spec = spec_of("sync", cooldown_steps=8)
    stale, fresh = (series([1.0] * 4, staleness_max=staleness) for staleness in (3.0, 0.0))
    assert [one.state.syncing for one in watch(stale, spec)] == [False, True, True, True]
    assert [one.state.syncing for one in watch(fresh, spec)] == [False, True, False, False]


def test_unknown_figures_are_neither_good_nor_bad() -> None:
    decisions = watch(series([None] * 6), spec_of())
    assert not actions(decisions) and decisions[-1].healthy
    one_odd = watch(series([0.0, None, 0.05, None]), spec_of())
    assert actions(one_odd) == {2: "warn"}, "a mean is over what is known"


def test_same_window_state_and_spec_give_the_same_decision() -> None:
    figures, spec = trace("learning_rate_too_high"), spec_of()
    decisions = watch(figures, spec)
    middle = GuardState.model_validate_json(decisions[5].state.model_dump_json())
    assert decide(figures[5:7], middle, spec) == decisions[6]


def test_healthy_checkpoints_are_remembered_in_order() -> None:
    state = GuardState()
    for step in (0, 5, 10, 5, 20):
        state = checkpointed(state, step)
    assert state.healthy == (0, 5, 20)
    assert rolled_back(state, 5, spec_of()).healthy == (0, 5)


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ({"action": ["warn"]}, "action\n  Extra inputs"),
        ({"actions": ["shout"]}, "actions.0"),
        ({"actions": ["pause", "warn"]}, "nothing can follow pause"),
        ({"kl_k3": {"enter": 0.1, "leave": 0.2}}, "kl_k3: enter must be not below leave"),
        ({"ess_token": {"enter": 0.5, "leave": 0.3}}, "ess_token: enter must be not above leave"),
        ({"ess_token": {"enter": 0.5, "leave": 1.3}}, "ess_token: is a share"),
        ({"learning_rate_factor": 1.0}, "learning_rate_factor"),
        (dict.fromkeys(GuardSpec().limits()), "no figure has a limit"),
    ],
)
def test_a_guard_without_sense_is_refused(block: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        GuardSpec.model_validate(block)


def test_a_throttle_needs_something_to_tighten() -> None:
    guard, still = {"actions": ["throttle"]}, {"max_staleness": 0}
    with pytest.raises(ValidationError, match=r"guard.actions: throttle has nothing to tighten"):
        ExtensionSpec.model_validate({"guard": guard, "learner": still})
    ExtensionSpec.model_validate({"guard": guard, "learner": still | {"updates_per_step": 2}})

"""The guard in the learner: what it changes of the next record, whom it tells, and what it knows after a restart."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.drift.guard import GuardState
from services.job.guard import GuardSpec
from services.job.spec import JobSpec
from services.learner.guarding import Guarding, GuardMemory, in_effect
from services.records.drift import DriftFigures
from services.records.step import StepFigures
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.transitions import Status
from services.trajectories.progress import Progress
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"
CALM, BAD = (StepFigures(drift=DriftFigures(kl_k3=value)) for value in (0.0, 1.0))


def spec_of(*actions: str, **learner: Any) -> JobSpec:
    limits = {"window_steps": 1, "cooldown_steps": 1, "kl_k3": {"enter": 0.03, "leave": 0.01}}
    settings = {"steps": 20, "max_staleness": 4, "updates_per_step": 4, "learning_rate": 0.5, **learner}
    guard = GuardSpec.model_validate({"actions": actions, **limits})
    return job_spec(JOB, **settings).model_copy(update={"guard": guard})


class Case:
    """A guarded job that runs."""

    def __init__(self, client: Client, *actions: str, **learner: Any) -> None:
        self.client = client
        self.spec = spec_of(*actions, **learner)
        create_job(client, self.spec)
        for status in (Status.QUEUED, Status.RUNNING):
            Jobs(client).transition(JOB, status, by="test")
        self.guarding = Guarding(self.spec, client)

    def told(self) -> list[tuple[str, str]]:
        events = Events(self.client).list(JOB, limit=50)[0]
        return [(event.level, event.message) for event in reversed(events) if "uard" in event.message]

    def window(self) -> int | None:
        return Progress(self.client).read(JOB).staleness_window


def test_what_the_guard_did_is_in_the_settings_of_the_next_record(client: Client) -> None:
    case = Case(client, "lower_lr", "throttle", "sync")
    before = case.guarding.settings()
    assert before["learner"]["learning_rate"] == 0.5 and before["learner"]["max_staleness"] == 4
    for step, action in enumerate(["lower_lr", "throttle", "sync"]):
        assert case.guarding.look(step, BAD).action == action
    learner = case.guarding.settings()["learner"]
    assert learner["learning_rate"] == 0.25
    assert (learner["max_staleness"], learner["updates_per_step"]) == (0, 2)
    assert case.guarding.settings()["objective"] == case.spec.objective


def test_the_dispatcher_is_told_how_far_ahead_it_may_issue(client: Client) -> None:
    case = Case(client, "throttle", "sync")
    case.guarding.announce()
    assert case.window() is None, "as the job says"
    case.guarding.look(0, BAD)
    assert case.window() == 2
    case.guarding.look(1, BAD)
    assert case.window() == 0
    for step in (2, 3):
        case.guarding.look(step, CALM)
    assert case.window() is None, "the alarm is over"


def test_what_the_guard_does_is_told_with_its_reason(client: Client) -> None:
    case = Case(client, "warn")
    case.guarding.look(0, CALM)
    assert case.told() == []
    case.guarding.look(1, BAD)
    case.guarding.look(2, CALM)
    assert case.told() == [
        ("warn", "Guard, step 2: warn, because kl_k3 1 above 0.03"),
        ("info", "Guard, step 3: the alarm is over"),
    ]
    event = Events(client).list(JOB, limit=50)[0][1]
    assert event.data is not None and event.data["guard"]["action"] == "warn"


def test_a_learner_that_starts_again_decides_as_the_one_before(client: Client) -> None:
    case = Case(client, "warn", "throttle", "lower_lr", "pause")
    settings = case.guarding.settings()
    first = case.guarding.look(0, BAD)
    again = Guarding(case.spec, client)
    assert again.take_up(settings, 0, BAD) == first
    assert again.memory == case.guarding.memory
    assert len(case.told()) == 1, "nothing is told a second time"
    settings = case.guarding.settings()
    again.recall(settings)
    assert again.memory == case.guarding.memory and again.settings() == settings
    assert again.look(1, BAD).action == "throttle"


def test_a_record_of_another_version_of_the_guard_is_no_memory() -> None:
    assert GuardMemory.of({"guard": {"window": "?"}}) == GuardMemory.of({}) == GuardMemory()


def test_without_actions_nothing_is_watched_and_nothing_written(client: Client) -> None:
    case = Case(client)
    decision = case.guarding.look(0, BAD)
    assert (decision.action, case.guarding.on, case.guarding.may_roll_back) == (None, False, False)
    assert "guard" not in case.guarding.settings() and case.guarding.roll_back(0) == {}
    assert case.told() == [] and case.guarding.memory == GuardMemory(state=case.guarding.memory.state)


def test_checkpoints_of_healthy_steps_are_remembered_to_go_back_to(client: Client) -> None:
    case = Case(client, "rollback", checkpoint_every=2)
    assert case.guarding.healthy == (0,), "the beginning, until something is known"
    case.guarding.begin()
    assert case.guarding.memory.state.healthy == (0,)
    for step in range(5):
        case.guarding.look(step, BAD if step == 3 else CALM)
    assert case.guarding.healthy == (0, 2), "step 4 ended in an alarm, and 1, 3 and 5 have no checkpoint"
    said = case.guarding.roll_back(0)
    state = case.guarding.memory.state
    assert (state.healthy, state.rollbacks, state.learning_rate_factor) == ((0,), 1, 0.5)
    assert said == {"guard": case.guarding.memory.model_dump()} and case.guarding.memory.window == ()
    warning = Case.__new__(Case)
    warning.guarding = Guarding(spec_of("warn"), client)
    warning.guarding.begin()
    assert warning.guarding.healthy == () == warning.guarding.memory.state.healthy


def test_a_guard_with_nowhere_to_go_says_so_and_takes_the_next_rung(client: Client) -> None:
    case = Case(client, "rollback", "pause")
    assert case.guarding.look(0, BAD).action == "rollback"
    case.guarding.stay()
    assert case.told()[-1] == ("warn", "The guard would go back, but no healthy checkpoint is kept")
    assert case.guarding.look(1, BAD).action == "pause"
    assert case.guarding.memory.window == (), "whoever resumes the job has looked at it"


def test_a_pause_is_asked_for_as_a_person_would(client: Client) -> None:
    case = Case(client, "pause")
    case.guarding.pause()
    record = Jobs(client).get(JOB)
    assert record.status is Status.PAUSING
    [event] = [event for event in Events(client).list(JOB)[0] if "guard pauses" in event.message]
    assert event.data is not None and event.data["by"] == "guard"
    Jobs(client).transition(JOB, Status.CANCELLED, by="a person")
    case.guarding.pause()
    assert Jobs(client).get(JOB).status is Status.CANCELLED, "a person was faster"


def test_whether_a_job_was_resumed_since_a_moment(client: Client) -> None:
    case = Case(client, "pause")
    assert case.guarding.runs_since_before(time.time() + 1)
    assert not case.guarding.runs_since_before(time.time() - 60)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, (0.5, 4, 4)),
        ({"learning_rate_factor": 0.5}, (0.25, 4, 4)),
        ({"throttled": True}, (0.5, 2, 2)),
        ({"syncing": True}, (0.5, 0, 4)),
        ({"throttled": True, "syncing": True}, (0.5, 0, 2)),
    ],
)
def test_what_is_in_effect(state: dict[str, Any], expected: tuple[float, int, int]) -> None:
    learner = in_effect(spec_of("warn"), GuardState(**state)).learner
    assert (learner.learning_rate, learner.max_staleness, learner.updates_per_step) == expected


def test_a_throttle_leaves_one_update() -> None:
    assert in_effect(spec_of("warn", updates_per_step=1), GuardState(throttled=True)).learner.updates_per_step == 1

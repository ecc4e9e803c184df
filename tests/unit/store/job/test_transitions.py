"""The table of the job life cycle."""

from __future__ import annotations

import itertools

import pytest

from services.store.job.transitions import CANCEL, ENDED, FINAL, PAUSE, RESUME, TRANSITIONS, WAITS_FOR, Action, Status

S = Status

ALLOWED = {
    (S.VALIDATING_FILES, S.QUEUED),
    (S.QUEUED, S.RUNNING),
    (S.RUNNING, S.SUCCEEDED),
    (S.RUNNING, S.PAUSING),
    (S.PAUSING, S.PAUSED),
    (S.QUEUED, S.PAUSED),
    (S.PAUSED, S.QUEUED),
    (S.FAILED, S.QUEUED),
    *((status, S.FAILED) for status in (S.VALIDATING_FILES, S.QUEUED, S.RUNNING, S.PAUSING)),
    *((status, S.CANCELLED) for status in Status if status not in (S.SUCCEEDED, S.CANCELLED)),
}


def test_the_table_is_the_documented_one() -> None:
    assert {(current, to) for current, onward in TRANSITIONS.items() for to in onward} == ALLOWED
    assert set(TRANSITIONS) == set(Status)


def test_final_states_have_no_way_out_and_a_failed_job_has() -> None:
    assert {S.SUCCEEDED, S.CANCELLED} == FINAL
    assert FINAL | {S.FAILED} == ENDED


@pytest.mark.parametrize("action", [PAUSE, RESUME, CANCEL], ids=lambda action: action.name)
def test_actions_stay_inside_the_table(action: Action) -> None:
    assert all(to in TRANSITIONS[current] for current, to in action.moves.items())
    assert not set(action.moves) & action.holds
    assert set(action.moves.values()) <= action.holds


def test_every_state_that_is_not_final_says_what_it_waits_for() -> None:
    assert {status for status, what in WAITS_FOR.items() if what is None} == FINAL


def test_a_paused_job_can_only_end_cancelled_or_go_on() -> None:
    reachable = {S.PAUSED}
    for _ in range(len(Status)):
        reachable |= set(itertools.chain.from_iterable(TRANSITIONS[status] for status in reachable))
    assert S.VALIDATING_FILES not in reachable
    assert S.SUCCEEDED in reachable

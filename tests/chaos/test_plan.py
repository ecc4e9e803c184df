"""The plan keeps what it promises, for every seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tests.chaos.plan import FULL, NEVER_IMPATIENT, SHORT, Action, Victim, plan, shares, victims

POINTS = {
    "learner.before_link",
    "learner.after_link",
    "finish.before_reply",
    "learner.before_publish",
    "learner.after_publish",
    "hand_over.before_send",
    "hand_over.before_reply",
    "rollout.mid_weight_load",
    "engine.mid_weight_load",
}


def test_the_full_plan_holds_what_is_asked_of_it() -> None:
    counts = victims(FULL)
    assert len(FULL) >= 100 and set(counts) == set(Victim)
    assert counts[Victim.LEARNER] >= 15 and counts[Victim.ENGINE] >= 15
    assert {event.point for event in FULL if event.action is Action.FAULT} >= POINTS
    cuts = [event.commits for event in FULL if event.action is Action.CUT]
    assert len(cuts) >= 10 and sum(commits >= 3 for commits in cuts) >= 3
    stopped = {event.victim for event in FULL if event.action is Action.STOP}
    assert stopped >= {Victim.LEARNER, Victim.ROLLOUT, Victim.REWARD, Victim.CONTROLLER}


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_is_the_templates_in_another_order(seed: int) -> None:
    events = plan(seed)
    assert events == plan(seed) and Counter(events) == Counter(FULL)
    assert [event.pause_seconds for event in events] == [event.pause_seconds for event in plan(seed)]


@pytest.mark.parametrize("seed", range(20))
def test_impatience_is_short_and_never_hits_one_kind_twice(seed: int) -> None:
    events = plan(seed)
    for event, following in pairwise(events):
        if not event.waits:
            assert following.waits and following.victim is not event.victim
            assert event.victim not in NEVER_IMPATIENT


def test_another_number_of_events() -> None:
    assert len(plan(1, 7)) == 7
    more = plan(1, len(FULL) + 5)
    assert len(more) == len(FULL) + 5 and not Counter(FULL) - Counter(more)
    assert Counter(plan(3, templates=SHORT)) == Counter(SHORT)


def test_shares_are_even_and_complete() -> None:
    events = plan(5)
    parts = shares(events, 11)
    assert [event for part in parts for event in part] == events
    assert len(parts) == 11 and max(map(len, parts)) - min(map(len, parts)) <= 1

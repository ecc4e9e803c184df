"""Capacity: never past the staleness window, never more than the job needs, never above the bytes that may wait."""

from __future__ import annotations

import pytest

from services.controller.issuing.capacity import Capacity, Limit, Queued, bytes_room, capacity, largest_group_bytes
from services.job.spec import LearnerSpec, RolloutSpec

SPEC = LearnerSpec(steps=10, batch_size=4, max_staleness=2)


@pytest.mark.parametrize(
    ("next_step", "trained", "in_flight", "room"),
    [
        (0, 0, 0, 12),  # this step and two ahead
        (0, 0, 12, 0),
        (1, 4, 8, 4),
        (9, 36, 0, 4),  # only the last batch is needed
        (9, 36, 4, 0),
        (10, 40, 0, 0),
    ],
)
def test_window_and_need(next_step: int, trained: int, in_flight: int, room: int) -> None:
    assert (
        capacity(SPEC, next_step=next_step, published_step=next_step, trained=trained, in_flight=in_flight).groups
        == room
    )


def test_the_window_opens_with_the_weights() -> None:
    """Between commit and publish groups are still sampled with the older weights: they would be a step older."""
    assert capacity(SPEC, next_step=1, published_step=0, trained=4, in_flight=8).groups == 0
    assert capacity(SPEC, next_step=1, published_step=1, trained=4, in_flight=8).groups == 4


def test_a_drop_makes_room_again() -> None:
    assert capacity(SPEC, next_step=9, published_step=9, trained=36, in_flight=3).groups == 1


def test_synchronous_waits_for_the_weights_of_the_step() -> None:
    spec = SPEC.model_copy(update={"synchronous": True})
    assert capacity(spec, next_step=1, published_step=0, trained=4, in_flight=0).groups == 0
    assert capacity(spec, next_step=1, published_step=1, trained=4, in_flight=0).groups == 4
    assert capacity(spec, next_step=1, published_step=1, trained=4, in_flight=4).groups == 0


def room(queued: Queued, in_flight: int, max_queued_bytes: int = 2**20) -> int:
    spec = SPEC.model_copy(update={"max_queued_bytes": max_queued_bytes})
    return capacity(spec, next_step=0, published_step=0, trained=0, in_flight=in_flight, queued=queued).groups


@pytest.mark.parametrize(
    ("queued", "in_flight", "expected"),
    [
        (Queued(bytes=0, unsampled=0, group_bytes=2**20 / 20), 0, 12),  # the window is narrower than the bytes
        (Queued(bytes=0, unsampled=0, group_bytes=2**20 / 6), 0, 6),
        (Queued(bytes=2**19, unsampled=0, group_bytes=2**20 / 8), 4, 4),
        (Queued(bytes=2**19, unsampled=2, group_bytes=2**20 / 8), 6, 2),  # prompts will be groups
        (Queued(bytes=2**20, unsampled=0, group_bytes=2**20 / 8), 8, 0),
        (Queued(bytes=2**20 - 1, unsampled=0, group_bytes=2**20 / 8), 7, 0),  # not even one more
        (Queued(bytes=2**24, unsampled=0, group_bytes=2**20), 8, 0),
        (Queued(bytes=2**24, unsampled=0, group_bytes=0), 8, 4),  # unknown: bounded by steps alone
    ],
)
def test_no_group_is_issued_above_the_bytes_that_may_wait(queued: Queued, in_flight: int, expected: int) -> None:
    assert room(queued, in_flight) == expected


@pytest.mark.parametrize("in_flight", [0, 1, 3, 4])
def test_one_batch_may_always_be_in_flight(in_flight: int) -> None:
    """A job whose budget is smaller than a batch goes on step by step."""
    large = Queued(bytes=in_flight * 2**30, unsampled=0, group_bytes=2**30)
    assert room(large, in_flight) == 4 - in_flight


def test_issuing_by_this_rule_never_passes_the_budget() -> None:
    spec = SPEC.model_copy(update={"max_queued_bytes": 2**20, "steps": 1000})
    size, prompts, sampled = 100_000, 0, 0
    for look in range(200):
        prompts += bytes_room(spec, Queued(sampled * size, prompts, size), prompts + sampled)
        assert (prompts + sampled) * size <= 2**20
        moved = min(prompts, look % 3)
        prompts, sampled = prompts - moved, sampled + moved
        if sampled >= 4:
            sampled -= 4
    assert prompts + sampled > 4


def test_before_a_group_was_sampled_it_is_expected_at_its_largest() -> None:
    assert largest_group_bytes(RolloutSpec(group_size=8, max_tokens=64)) == 8 * 64 * 9


@pytest.mark.parametrize(
    ("trained", "in_flight", "queued", "expected"),
    [
        (36, 4, Queued(bytes=2**30, group_bytes=2**20), Capacity(0, Limit.STEPS)),  # nothing more is needed anyhow
        (0, 12, Queued(bytes=2**30, group_bytes=2**20), Capacity(0, Limit.STALENESS)),
        (0, 8, Queued(bytes=2**30, group_bytes=2**20), Capacity(0, Limit.BYTES)),
        (0, 8, Queued(), Capacity(4, Limit.STALENESS)),
    ],
)
def test_the_answer_says_which_bound_it_is(trained: int, in_flight: int, queued: Queued, expected: Capacity) -> None:
    where = {"next_step": trained // 4, "published_step": trained // 4, "trained": trained, "in_flight": in_flight}
    found = capacity(SPEC, **where, queued=queued)
    assert found == expected and found.is_full(Limit.BYTES) is (expected == Capacity(0, Limit.BYTES))


def test_a_synchronous_job_says_that_it_waits_for_weights() -> None:
    spec = SPEC.model_copy(update={"synchronous": True})
    assert capacity(spec, next_step=1, published_step=0, trained=4, in_flight=0) == Capacity(0, Limit.WEIGHTS)

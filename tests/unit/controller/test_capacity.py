"""Capacity: never past the staleness window, never more than the job needs."""

from __future__ import annotations

import pytest

from services.controller.capacity import capacity
from services.spec import LearnerSpec

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
    assert capacity(SPEC, next_step=next_step, published_step=next_step, trained=trained, in_flight=in_flight) == room


def test_a_drop_makes_room_again() -> None:
    assert capacity(SPEC, next_step=9, published_step=9, trained=36, in_flight=3) == 1


def test_synchronous_waits_for_the_weights_of_the_step() -> None:
    spec = SPEC.model_copy(update={"synchronous": True})
    assert capacity(spec, next_step=1, published_step=0, trained=4, in_flight=0) == 0
    assert capacity(spec, next_step=1, published_step=1, trained=4, in_flight=0) == 4
    assert capacity(spec, next_step=1, published_step=1, trained=4, in_flight=4) == 0

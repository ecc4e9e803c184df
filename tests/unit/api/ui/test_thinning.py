"""Stretches of steps: powers of two at multiples of themselves, so that what is past stays where it is."""

from __future__ import annotations

import numpy as np
import pytest

from services.api.ui.thinning import means, stretches


@pytest.mark.parametrize(("steps", "most", "length"), [(0, 4, 1), (4, 4, 1), (5, 4, 2), (9, 4, 4), (400, 200, 2)])
def test_stretches_are_as_long_as_they_must_be(steps: int, most: int, length: int) -> None:
    assert stretches(np.arange(steps), most).tolist() == list(range(0, steps, length))


def test_stretches_begin_at_multiples_of_their_length() -> None:
    steps = np.arange(3, 12)
    assert steps[stretches(steps, 5)].tolist() == [3, 4, 6, 8, 10]


def test_means_of_the_past_stay_when_steps_are_added() -> None:
    values = np.arange(1000.0)
    assert means(np.arange(0), values[:0]) == []
    assert means(np.arange(3), values[:3]) == [[0, 0.0], [1, 1.0], [2, 2.0]]
    before, after = means(np.arange(900), values[:900]), means(np.arange(1000), values)
    assert len(after) <= 200 and before[:-1] == after[: len(before) - 1]
    assert after[1] == [8, 11.5]

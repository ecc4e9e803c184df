"""DAPO's soft punishment of overlong answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspo_core.shaping import overlong_penalty
from tests.unit.sspo_core.batches import MODEST


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, 0.0), (16_384, 0.0), (16_385, -1 / 4096), (18_432, -0.5), (20_480, -1.0), (20_481, -1.0), (10**6, -1.0)],
)
def test_of_the_paper(tokens: int, expected: float) -> None:
    """A maximum of 20,480 with a cache of 4,096."""
    assert overlong_penalty(tokens, max_tokens=20_480, cache_tokens=4096) == expected


@MODEST
@given(tokens=st.integers(0, 300), more=st.integers(0, 300), maximum=st.integers(1, 200), data=st.data())
def test_never_rises_with_length(tokens: int, more: int, maximum: int, data: st.DataObject) -> None:
    cache = data.draw(st.integers(1, maximum))
    short, long = (overlong_penalty(n, max_tokens=maximum, cache_tokens=cache) for n in (tokens, tokens + more))
    assert -1.0 <= long <= short <= 0.0


@pytest.mark.parametrize(
    ("named", "change"),
    [
        ("tokens", {"tokens": -1}),
        ("max_tokens", {"max_tokens": 0}),
        ("cache_tokens", {"cache_tokens": 0}),
        ("cache_tokens", {"cache_tokens": 11}),
    ],
)
def test_bad_arguments_are_named(named: str, change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"^{named}:"):
        overlong_penalty(**({"tokens": 5, "max_tokens": 10, "cache_tokens": 4} | change))

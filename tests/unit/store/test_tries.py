"""How often a command is tried, without a Redis: what is told of failures, and which are not tried again."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as StoreAway

from services.store.patience import Patience


class Flaky:
    """Fails so many times, then answers; notes what it was told of its failures."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.told: list[tuple[object, ...]] = []

    def do(self) -> str:
        if self.left:
            self.left -= 1
            raise StoreAway("away")
        return "answer"

    def fail(self, *told: object) -> None:
        self.told.append(told[1:])


def test_each_failure_is_told_and_counted() -> None:
    for counted, told in ((True, [(1,), (2,), (3,)]), (False, [(), (), ()])):
        flaky = Flaky(3)
        assert Patience(20).call_with_retry(flaky.do, flaky.fail, with_failure_count=counted) == "answer"
        assert flaky.told == told


def test_a_failure_that_may_not_be_repeated_is_raised_at_once() -> None:
    flaky = Flaky(1)
    with pytest.raises(StoreAway):
        Patience(20).call_with_retry(flaky.do, flaky.fail, lambda error: "away" not in str(error))
    assert flaky.told == []
    assert Patience(20).call_with_retry(Flaky(1).do, flaky.fail, lambda error: "away" in str(error)) == "answer"


def test_a_try_inside_a_try_is_left_to_the_outer_one() -> None:
    inner, outer = Flaky(2), Flaky(0)
    patience = Patience(20)

    def connect_and_do() -> str:
        return patience.call_with_retry(inner.do, inner.fail)

    assert patience.call_with_retry(connect_and_do, outer.fail, with_failure_count=True) == "answer"
    assert (inner.told, outer.told) == ([(), ()], [(1,), (2,)])


def test_patience_begins_anew_with_each_command() -> None:
    patience = Patience(0.0)
    for _ in range(2):
        with pytest.raises(StoreAway):
            patience.call_with_retry(Flaky(1).do, lambda *_: None)
    assert patience.call_with_retry(Flaky(0).do, lambda *_: None) == "answer"

"""Reading an entry never raises: what its plain fields lack is said."""

from __future__ import annotations

from typing import Any

import pytest

from services.trajectories.entries import NO_NUMBER, Entry, read_entry

FIELDS = {b"job": b"j", b"number": b"7", b"step": b"3", b"tokens": b"12", b"payload": b"p"}


def test_an_entry_of_ours_has_no_problem() -> None:
    assert read_entry("j", b"1-0", FIELDS, 2) == Entry("1-0", 7, 3, b"p", deaths=2, tokens=12)


@pytest.mark.parametrize(
    ("changes", "named", "number"),
    [
        ({b"job": b"k"}, "job", 7),
        ({b"step": None}, "step", 7),
        ({b"payload": None}, "payload", 7),
        *[
            ({b"number": value}, "number", NO_NUMBER)
            for value in (None, b"", b"-1", b"07", b" 7", b"7.0", b"1_0", b"\xff", b"4294967296", b"9" * 4000)
        ],
        ({b"job": None, b"number": None, b"step": None, b"payload": None}, "job, number, step, payload", NO_NUMBER),
    ],
)
def test_what_is_missing_or_wrong_is_named(changes: dict[bytes, Any], named: str, number: int) -> None:
    fields = {name: value for name, value in {**FIELDS, **changes}.items() if value is not None}
    entry = read_entry("j", "1-0", fields)
    assert entry.problem == f"plain fields missing or wrong: {named}" and entry.number == number


def test_what_strangers_leave_out_counts_nothing() -> None:
    entry = read_entry("j", "1-0", {b"hello": b"world"})
    assert (entry.number, entry.step, entry.tokens, entry.deaths, entry.payload) == (NO_NUMBER, 0, 0, 0, b"")


def test_the_highest_number_is_the_last_that_the_bitmap_has_a_place_for() -> None:
    assert read_entry("j", "1-0", {**FIELDS, b"number": b"4294967295"}).number == 2**32 - 1

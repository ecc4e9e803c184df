"""What headers mean together: cuts go back, numbers keep one outcome, checkpoints of undone lineages don't count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.journal.errors import JournalDamaged
from services.journal.lineage import finished_numbers, skips_in_a_row, still_counts, surviving, undone_versions
from services.journal.record import Outline
from tests.support.audit import audit_headers


def headers(*kinds: tuple[str, int, Any]) -> list[Outline]:
    """(kind, step, numbers trained or {reason: numbers}) in order."""
    found = []
    for sequence, (kind, step, what) in enumerate(kinds):
        numbers: dict[str, Any] = {"trained": what} if kind == "step" else {"dropped": what}
        found.append(Outline(sequence=sequence, kind=kind, step=step, cursor=8, **numbers))  # type: ignore[arg-type]
    return found


SKIPPED = headers(
    ("step", 0, [0, 1]),
    ("drop", 1, {"stale": [2]}),
    ("step", 1, [3, 4]),
    ("skip", 1, {"poison": [3, 4]}),
    ("step", 1, [5, 6]),
    ("close", 2, {"job_end": [7]}),
)
ROLLED_BACK = headers(
    ("step", 0, [0, 1]),
    ("step", 1, [2, 3]),
    ("step", 2, [4, 5]),
    ("rollback", 1, {"rolled_back": [2, 3, 4, 5]}),
    ("step", 1, [6, 7]),
)


def test_a_skipped_record_gives_its_step_to_the_next_one() -> None:
    assert [header.sequence for header in surviving(SKIPPED)] == [0, 4]
    report = audit_headers(SKIPPED)
    assert report.clean and (report.steps, report.trained) == (2, 4)
    assert report.dropped == {"stale": 1, "poison": 2, "job_end": 1}
    assert finished_numbers(SKIPPED)["trained"] == [0, 1, 5, 6]


def test_a_rollback_undoes_the_steps_from_its_own_on() -> None:
    assert [header.sequence for header in surviving(ROLLED_BACK)] == [0, 4]
    report = audit_headers(ROLLED_BACK)
    assert report.clean and (report.steps, report.trained, report.dropped) == (2, 4, {"rolled_back": 4})


def test_a_skip_may_undo_later_steps_too() -> None:
    found = headers(
        ("step", 0, [0]), ("step", 1, [1]), ("step", 2, [2]), ("skip", 1, {"poison": [1], "rolled_back": [2]})
    )
    report = audit_headers(found)
    assert (report.steps, report.trained, report.dropped) == (1, 1, {"poison": 1, "rolled_back": 1})
    assert report.trained_twice == []


@pytest.mark.parametrize(
    "found",
    [
        headers(("step", 0, [0]), ("skip", 0, {"poison": [1]})),
        headers(("step", 0, [0]), ("skip", 0, {})),
        headers(("step", 0, [0]), ("skip", 0, {"poison": [0]}), ("step", 0, [0])),
        headers(("step", 0, [0]), ("skip", 0, {"poison": [0]}), ("drop", 0, {"stale": [0]})),
        headers(("step", 0, [0]), ("drop", 1, {"stale": [0]})),
    ],
    ids=["undone but not trained", "cut but not undone", "trained again", "dropped after the cut", "two outcomes"],
)
def test_the_audit_sees_numbers_that_do_not_add_up(found: list[Outline]) -> None:
    assert 0 in audit_headers(found).trained_twice


@pytest.mark.parametrize(
    "found", [headers(("step", 1, [0])), headers(("step", 0, [0]), ("step", 0, [1])), headers(("skip", 1, {}))]
)
def test_steps_without_order_are_damage(found: list[Outline]) -> None:
    with pytest.raises(JournalDamaged):
        surviving(found)


@pytest.mark.parametrize(
    ("step", "sequence", "counts"),
    [(1, 0, True), (2, 1, False), (3, 2, False), (2, 4, True), (1, -1, True), (2, -1, False)],
)
def test_checkpoints_of_an_undone_lineage_do_not_count(step: int, sequence: int, counts: bool) -> None:
    assert still_counts(ROLLED_BACK, step=step, sequence=sequence) is counts


def test_skips_in_a_row_end_with_a_step_that_survives() -> None:
    again = [("step", 1, [7]), ("skip", 1, {"poison": [7]})]
    start = [("step", 0, [0]), ("step", 1, [1]), ("skip", 1, {"poison": [1]})]
    assert skips_in_a_row(headers(*start)) == 1
    assert skips_in_a_row(headers(*start, ("drop", 1, {"stale": [5]}), *again)) == 2
    assert skips_in_a_row(headers(*start, ("step", 1, [6]))) == 0
    assert skips_in_a_row(headers(*start, *again, ("step", 1, [8]))) == 0


def test_versions_of_undone_weights_are_those_between_the_step_gone_back_to_and_the_cut() -> None:
    versions = (1, 2, 3, 4, 5)  # newest published as each record of ROLLED_BACK was written
    told = [replace(header, policy_version=version) for header, version in zip(ROLLED_BACK, versions, strict=True)]
    assert undone_versions(told) == [range(3, 5)], "2 has the weights that step 1 was trained from"
    assert undone_versions(told[:3]) == []
    assert undone_versions([replace(header, policy_version=2) for header in SKIPPED]) == []


def test_a_cut_that_undoes_nothing_undoes_no_versions() -> None:
    found = headers(("step", 0, [0]), ("skip", 1, {}), ("step", 1, [1]))
    told = [replace(header, policy_version=version) for header, version in zip(found, (1, 5, 5), strict=True)]
    assert undone_versions(told) == []
    assert [header.sequence for header in surviving(told)] == [0, 2]


def test_a_rollback_ends_a_row_of_skips() -> None:
    skip = [("step", 0, [1]), ("skip", 0, {"poison": [1]})]
    assert skips_in_a_row([]) == 0
    assert skips_in_a_row(headers(*skip, *skip)) == 2
    assert skips_in_a_row(headers(*skip, ("rollback", 0, {}), *skip)) == 1


def test_the_audit_counts_what_is_undone_once() -> None:
    report = audit_headers(ROLLED_BACK)
    assert (report.records, report.last_cursor, report.missing, report.closed) == (5, 8, [], False)
    assert audit_headers(SKIPPED).closed and audit_headers(SKIPPED).clean
    assert audit_headers(SKIPPED[:-1]).missing == [7] and not audit_headers(SKIPPED[:-1]).clean


def test_reasons_of_one_kind_are_kept_together() -> None:
    found = headers(("drop", 0, {"stale": [3]}), ("drop", 0, {"stale": [1], "poison": [2]}))
    assert finished_numbers(found) == {"trained": [], "stale": [3, 1], "poison": [2]}

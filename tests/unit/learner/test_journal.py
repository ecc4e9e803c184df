"""The journal: link is the commit, the chain is checked, epochs are exclusive."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.learner.errors import JournalDamaged, SequenceTaken
from services.learner.journal import Draft, Journal, audit, finished_numbers


def step(number: int, *groups: int, cursor: int = 10) -> Draft:
    return Draft(kind="step", step=number, cursor=cursor, groups=[(n, b"group %d" % n) for n in groups])


def test_records_come_back_verbatim_and_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.claim_epoch()
    journal.commit(step(0, 0, 2))
    journal.commit(Draft(kind="drop", step=1, cursor=10, dropped={"stale": [1]}))
    records = list(Journal(tmp_path).records())
    assert [record.header.kind for record in records] == ["step", "drop"]
    assert records[0].payloads == [b"group 0", b"group 2"]
    assert records[1].header.previous == records[0].hash
    assert finished_numbers([record.header for record in records]) == {"trained": [0, 2], "stale": [1]}


def test_a_taken_place_is_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    assert (first.claim_epoch(), second.claim_epoch()) == (1, 2)
    second.commit(step(0, 5))
    with pytest.raises(SequenceTaken):
        first.commit(step(0, 6))
    [record] = Journal(tmp_path).records()
    assert record.header.trained == [5]
    assert not list(tmp_path.glob(".record-*"))


def test_damage_and_gaps_are_typed_errors(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.claim_epoch()
    for number in range(3):
        journal.commit(step(number, number))
    middle = tmp_path / "00000001.rec"
    original = middle.read_bytes()
    middle.write_bytes(original[:-40] + b"x" + original[-39:])
    with pytest.raises(JournalDamaged, match=r"00000001\.rec fails its hash"):
        list(Journal(tmp_path).headers())
    middle.unlink()
    with pytest.raises(JournalDamaged, match=r"00000001\.rec is missing"):
        list(Journal(tmp_path).headers())
    middle.write_bytes((tmp_path / "00000000.rec").read_bytes())
    with pytest.raises(JournalDamaged, match="does not follow"):
        list(Journal(tmp_path).headers())


def test_a_reader_continues_where_the_journal_ends(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.claim_epoch()
    first.commit(step(0, 0))
    again = Journal(tmp_path)
    assert again.claim_epoch() == 2
    assert [header.sequence for header in again.headers()] == [0]
    assert again.commit(step(1, 1)).sequence == 1


def test_audit_finds_numbers_trained_twice_and_missing_ones(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.claim_epoch()
    journal.commit(step(0, 0, 1, cursor=3))
    journal.commit(step(1, 1, cursor=4))
    journal.commit(Draft(kind="close", step=2, cursor=4, dropped={"job_end": [3]}))
    report = audit(tmp_path)
    assert (report.trained_twice, report.missing, report.closed, report.clean) == ([1], [2], True, False)
    assert (report.steps, report.dropped) == (2, {"job_end": 1})

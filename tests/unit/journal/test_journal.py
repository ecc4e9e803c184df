"""The journal: link is the commit, the chain is checked, epochs are exclusive, pruning leaves what counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from services.journal.errors import JournalDamaged, SequenceTaken
from services.journal.journal import Draft, Journal, audit, finished_numbers
from services.journal.record import read_head
from services.trajectories.outcomes import Fenced
from tests.support.interruption import interrupted_after


def step(number: int, *groups: int, cursor: int = 10) -> Draft:
    return Draft(kind="step", step=number, cursor=cursor, groups=[(n, b"group %d" % n) for n in groups])


def written(folder: Path, *drafts: Draft) -> Journal:
    journal = Journal(folder)
    journal.claim_epoch()
    for draft in drafts:
        journal.commit(draft)
    return journal


def test_records_come_back_verbatim_and_in_order(tmp_path: Path) -> None:
    written(tmp_path, step(0, 0, 2), Draft(kind="drop", step=1, cursor=10, dropped={"stale": [1]}))
    journal = Journal(tmp_path)
    headers = list(journal.headers())
    assert [header.kind for header in headers] == ["step", "drop"]
    record = journal.read(0)
    assert record.header == headers[0] and record.payloads == [b"group 0", b"group 2"]
    assert headers[1].previous == record.hash
    assert finished_numbers(headers) == {"trained": [0, 2], "stale": [1]}


def test_a_taken_place_is_refused_and_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    assert (first.claim_epoch(), second.claim_epoch()) == (1, 2)
    second.commit(step(0, 5))
    monkeypatch.setattr(Journal, "check_epoch", lambda self: None)  # the moment between that look and the link
    with pytest.raises(SequenceTaken):
        first.commit(step(0, 6))
    [header] = Journal(tmp_path).headers()
    assert header.trained == [5]
    assert not list(tmp_path.glob(".record-*"))


def test_an_older_epoch_commits_nothing(tmp_path: Path) -> None:
    first = written(tmp_path, step(0, 0))
    second = Journal(tmp_path)
    second.claim_epoch()
    with pytest.raises(Fenced, match="epoch 1 is over"):
        first.commit(step(1, 1))
    assert [header.sequence for header in second.headers()] == [0]
    assert second.commit(step(1, 1)).epoch == 2


def test_damage_and_gaps_are_typed_errors(tmp_path: Path) -> None:
    written(tmp_path, *(step(number, number) for number in range(3)))
    middle = tmp_path / "00000001.rec"
    original = middle.read_bytes()
    middle.write_bytes(original[:40] + b"x" + original[41:])
    with pytest.raises(JournalDamaged, match=r"00000001\.rec fails its hash"):
        list(Journal(tmp_path).headers())
    middle.unlink()
    with pytest.raises(JournalDamaged, match=r"00000001\.rec is missing"):
        list(Journal(tmp_path).headers())
    middle.write_bytes((tmp_path / "00000000.rec").read_bytes())
    with pytest.raises(JournalDamaged, match="does not follow"):
        list(Journal(tmp_path).headers())


@pytest.mark.parametrize("damage", [lambda b: b[:-1] + b"x", lambda b: b[:-1], lambda b: b + b"x"])
def test_damaged_groups_are_found_when_they_are_read(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    written(tmp_path, step(0, 0, 1))
    path = tmp_path / "00000000.rec"
    path.write_bytes(damage(path.read_bytes()))
    assert len(list(Journal(tmp_path).headers())) == 1, "headers stand for themselves"
    with pytest.raises(JournalDamaged, match="fails its hash"):
        Journal(tmp_path).read(0)


def test_headers_are_read_without_the_groups(tmp_path: Path) -> None:
    written(tmp_path, step(0, 0))
    path = tmp_path / "00000000.rec"
    with open(path, "ab") as file:
        file.truncate(2**40)  # sparse: reading it would take hours
    assert [header.trained for header in Journal(tmp_path).headers()] == [[0]]


def test_a_reader_continues_where_the_journal_ends(tmp_path: Path) -> None:
    written(tmp_path, step(0, 0))
    again = Journal(tmp_path)
    assert again.claim_epoch() == 2
    assert [header.sequence for header in again.headers()] == [0]
    assert again.commit(step(1, 1)).sequence == 1


def test_pruning_keeps_headers_and_chain_and_drops_groups(tmp_path: Path) -> None:
    journal = written(tmp_path, *(step(number, number) for number in range(4)))
    before = list(journal.headers())
    journal.result_path(0).write_text("{}")
    assert journal.prune(below=2) == 2
    assert not journal.result_path(0).exists()
    again = Journal(tmp_path)
    assert list(again.headers()) == before
    with pytest.raises(JournalDamaged, match=r"00000001\.rec were pruned.*from a backup"):
        again.read(1)
    assert again.read(2).payloads == [b"group 2"]
    assert journal.prune(below=2) == 0, "repeating it changes nothing"
    again.claim_epoch()
    assert again.commit(step(4, 4)).sequence == 4


@pytest.mark.parametrize("survived", range(9))
def test_pruning_may_be_interrupted_between_any_of_its_operations(tmp_path: Path, survived: int) -> None:
    journal = written(tmp_path, *(step(number, number) for number in range(3)))
    before = list(journal.headers())
    journal.result_path(0).write_text("{}")
    with interrupted_after(survived, ("open", "fsync", "rename")) as interruption:
        journal.prune(below=2)
    assert interruption.happened == (survived < 8), "each of the operations was the last one once"
    again = Journal(tmp_path)
    assert list(again.headers()) == before, "the chain holds"
    assert again.read(2).payloads == [b"group 2"], "what is needed is there"
    again.claim_epoch()
    again.prune(below=2)
    assert [read_head(path)[1] for path in sorted(tmp_path.glob("*.rec"))] == [False, False, True]


def test_audit_finds_numbers_trained_twice_and_missing_ones(tmp_path: Path) -> None:
    written(
        tmp_path,
        step(0, 0, 1, cursor=3),
        step(1, 1, cursor=4),
        Draft(kind="close", step=2, cursor=4, dropped={"job_end": [3]}),
    )
    report = audit(tmp_path)
    assert (report.trained_twice, report.missing, report.closed, report.clean) == ([1], [2], True, False)
    assert (report.steps, report.dropped) == (2, {"job_end": 1})

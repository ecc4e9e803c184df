"""The journal: link is the commit, the chain is checked, epochs are exclusive, pruning leaves what counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.journal.errors import JournalDamaged, SequenceTaken
from services.journal.journal import Draft, Journal
from services.journal.lineage import finished_numbers
from services.journal.record import read_head
from services.trajectories.outcomes import Fenced
from tests.support.audit import audit
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


def test_epochs_are_dense_and_each_is_claimed_once(tmp_path: Path) -> None:
    journals = [Journal(tmp_path) for _ in range(12)]
    assert [journal.epoch for journal in journals] == [0] * 12
    assert [journal.claim_epoch() for journal in journals] == list(range(1, 13))
    journals[-1].check_epoch()
    for journal in journals[:-1]:
        with pytest.raises(Fenced):
            journal.check_epoch()


def test_a_learner_that_claims_at_the_same_moment_takes_the_next_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, look = Journal(tmp_path), Path.glob

    def another_is_faster(folder: Path, pattern: str) -> list[Path]:
        found = list(look(folder, pattern))
        if pattern == "epoch.*" and not found:
            (tmp_path / "epoch.1").write_text("another")
        return found

    monkeypatch.setattr(Path, "glob", another_is_faster)
    assert late.claim_epoch() == 2


def test_what_killed_learners_left_goes_once_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".record-0-1-77", tmp_path / ".pruned-0-1-78"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    Journal(tmp_path).claim_epoch()
    assert not old.exists() and young.exists(), "a young one may be a living learner's"


def test_pruning_goes_on_where_it_ended(tmp_path: Path) -> None:
    journal = written(tmp_path, *(step(number, number) for number in range(4)))
    for sequence in range(4):
        journal.result_path(sequence).write_text("{}")
    assert [journal.prune(below=below) for below in (1, 1, 3, 2)] == [1, 0, 2, 0]
    assert [journal.result_path(sequence).exists() for sequence in range(4)] == [False, False, False, True]
    assert journal.read(3).payloads == [b"group 3"]


def test_a_journal_without_records_is_read(tmp_path: Path) -> None:
    assert list(Journal(tmp_path).headers()) == []
    report = audit(tmp_path)
    assert (report.records, report.steps, report.trained, report.last_cursor, report.closed) == (0, 0, 0, 0, False)
    assert report.clean and report.dropped == {}


def test_reading_again_begins_at_the_beginning(tmp_path: Path) -> None:
    journal = written(tmp_path, step(0, 0), step(1, 1))
    for _ in range(2):
        assert [header.sequence for header in journal.headers()] == [0, 1]
    assert journal.commit(step(2, 2)).sequence == 2


def test_a_record_that_follows_nothing_is_damage(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    written(one, step(0, 0), step(1, 1))
    written(other, step(0, 7), step(1, 1))
    (one / "00000001.rec").write_bytes((other / "00000001.rec").read_bytes())
    with pytest.raises(JournalDamaged, match="record 1 does not follow"):
        list(Journal(one).headers())


def test_the_audit_of_a_whole_job_is_clean(tmp_path: Path) -> None:
    written(
        tmp_path,
        step(0, 0, 1, cursor=4),
        Draft(kind="drop", step=1, cursor=4, dropped={"stale": [2]}),
        Draft(kind="close", step=1, cursor=5, dropped={"job_end": [3, 4]}),
    )
    report = audit(tmp_path)
    assert report.clean and report.closed and report.missing == []
    assert (report.records, report.steps, report.trained, report.last_cursor) == (3, 1, 2, 5)
    assert report.dropped == {"stale": 1, "job_end": 2}


def test_each_place_of_a_record_has_its_own_files(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.result_path(3).name == "00000003.out"
    assert journal.attempt_path(3, 2).name == "00000003.attempt.2"

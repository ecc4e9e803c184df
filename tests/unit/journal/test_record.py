"""A record as bytes: what it says comes back, and what is no record of ours is named with what to do."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from services.journal import record
from services.journal.errors import JournalDamaged
from services.journal.journal import Draft, Journal
from services.journal.record import Header, pack, payload_hash, read_head, read_header, read_record


def written(folder: Path, draft: Draft) -> Path:
    journal = Journal(folder)
    journal.claim_epoch()
    journal.commit(draft)
    return folder / "00000000.rec"


def test_all_that_a_draft_says_is_in_the_record(tmp_path: Path) -> None:
    draft = Draft(
        kind="skip",
        step=3,
        cursor=9,
        groups=[(7, b"ab"), (5, b"c")],
        dropped={"poison": [1, 2], "stale": []},
        settings={"learning_rate": 0.5},
        policy_version=4,
        causes=["killed"],
    )
    header, digest = read_header(written(tmp_path, draft))
    assert (header.sequence, header.kind, header.step, header.cursor, header.epoch) == (0, "skip", 3, 9, 1)
    assert (header.trained, header.sizes, header.dropped) == ([7, 5], [2, 1], {"poison": [1, 2]})
    assert (header.settings, header.policy_version, header.causes) == ({"learning_rate": 0.5}, 4, ["killed"])
    assert (header.previous, header.payload_hash) == ("", hashlib.sha256(b"abc").hexdigest())
    assert header.written_at > 0 and digest == pack(header)[1]
    assert read_record(tmp_path / "00000000.rec").payloads == [b"ab", b"c"]
    assert Journal(tmp_path).settings(0) == {"learning_rate": 0.5}


def test_a_record_without_groups_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path, Draft(kind="drop", step=1, cursor=3, dropped={"stale": [2]}))
    found = read_record(path)
    assert (found.payloads, found.header.payload_hash, payload_hash([])) == ([], "", "")
    assert read_head(path)[1] is False and not Journal(tmp_path).is_pruned(0), "it never had any groups"


def test_pruned_groups_are_told_from_groups_that_are_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.claim_epoch()
    for number in range(2):
        journal.commit(Draft(kind="step", step=number, cursor=2, groups=[(number, b"group")]))
    journal.prune(below=1)
    assert (journal.is_pruned(0), journal.is_pruned(1)) == (True, False)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "no record of this version"),
        (lambda data: data[:9], "no record of this version"),
        (lambda data: b"SSPOJ1\n\0" + data[8:], "no record of this version"),
        (lambda data: data[:-1], "fails its hash"),
        (lambda data: data[:20] + b"?" + data[21:], "fails its hash"),
    ],
)
def test_what_is_no_record_says_what_to_do(tmp_path: Path, damage: object, words: str) -> None:
    path = written(tmp_path, Draft(kind="drop", step=0, cursor=0))
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(JournalDamaged, match=words):
        read_header(path)


def test_a_record_of_a_newer_version_is_refused_and_one_of_this_version_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = Header(sequence=0, kind="drop", step=0, cursor=0, epoch=1, previous="")
    path = tmp_path / "00000000.rec"
    path.write_bytes(pack(replace(header, schema_version=record.SCHEMA_VERSION + 1))[0])
    with pytest.raises(JournalDamaged, match="written by a newer version"):
        read_header(path)
    path.write_bytes(pack(header)[0])
    assert read_header(path)[0] == header
    with pytest.raises(JournalDamaged, match=r"00000001\.rec is missing"):
        read_header(tmp_path / "00000001.rec")

"""File records in Redis, contents on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.disk.layout import Layout
from services.store.client import Client
from services.store.files import Files, StoredFileNotFound


@pytest.fixture
def files(client: Client, tmp_path: Path) -> Files:
    return Files(client, Layout(tmp_path))


def test_content_and_record_agree(files: Files, tmp_path: Path) -> None:
    record = files.create("train.jsonl", "fine-tune", [b"one\n", b"two\n"])
    assert files.get(record.id) == record
    assert record.bytes == 8
    assert files.path(record.id) == tmp_path / "files" / record.id
    assert files.path(record.id).read_bytes() == b"one\ntwo\n"


def test_a_content_that_breaks_off_leaves_nothing(files: Files, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        files.create("train.jsonl", "fine-tune", broken())
    assert list((tmp_path / "files").iterdir()) == []
    assert files.list() == ([], False)


def test_deleting_while_paging_goes_on_from_an_id_that_is_gone(files: Files) -> None:
    made = [files.create(f"{number}", "fine-tune", [b"x"]).id for number in range(5)]
    newest_first = sorted(made, reverse=True)
    page, more = files.list(limit=2)
    assert ([record.id for record in page], more) == (newest_first[:2], True)
    for record in page:
        files.delete(record.id)
    page, more = files.list(after=newest_first[1], limit=3)
    assert ([record.id for record in page], more) == (newest_first[2:], False)
    assert [record.id for record in files.list(newest_first=False)[0]] == newest_first[2:][::-1]


def test_pages_filter_by_purpose(files: Files) -> None:
    files.create("a", "batch", [b"x"])
    wanted = files.create("b", "fine-tune", [b"x"])
    assert files.list(purpose="fine-tune", limit=1) == ([wanted], False)


def test_deleted_and_expired_files_are_gone_with_their_content(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = files.create("a", "fine-tune", [b"x"])
    files.delete(deleted.id)
    expiring = files.create("b", "fine-tune", [b"x"], expires_after_seconds=3600)
    assert files.get(expiring.id).expires_at == expiring.created_at + 3600
    monkeypatch.setattr("services.store.files.time.time", lambda: expiring.created_at + 3601.0)
    for file_id in (deleted.id, expiring.id, "file-never"):
        with pytest.raises(StoredFileNotFound, match=file_id):
            files.get(file_id)
    assert list((tmp_path / "files").iterdir()) == []


def test_a_file_that_was_given_no_end_has_none(files: Files) -> None:
    record = files.create("train.jsonl", "fine-tune", [])
    assert (record.expires_at, record.bytes, record.filename, record.purpose) == (None, 0, "train.jsonl", "fine-tune")
    assert abs(record.created_at - time.time()) < 30
    assert files.path(record.id).read_bytes() == b""


def test_a_file_is_there_until_the_second_it_expires(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    record = files.create("a", "batch", [b"x"], expires_after_seconds=60)
    end = float(record.created_at + 60)
    monkeypatch.setattr("services.store.files.time.time", lambda: end - 0.5)
    assert files.get(record.id) == record
    monkeypatch.setattr("services.store.files.time.time", lambda: end)
    with pytest.raises(StoredFileNotFound) as missing:
        files.delete(record.id)
    assert str(missing.value) == f"no file {record.id!r}" and missing.value.file_id == record.id


def test_a_full_page_says_whether_there_are_more_of_that_purpose(files: Files) -> None:
    wanted = [files.create(str(number), "batch", [b"x"]) for number in range(2)]
    files.create("other", "vision", [b"x"])
    newest_first = sorted(wanted, key=lambda record: record.id, reverse=True)
    assert files.list(purpose="batch", limit=1) == (newest_first[:1], True)
    assert files.list(purpose="batch", limit=2) == (newest_first, False)

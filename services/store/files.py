"""Uploaded and result files: the content on disk at DIR/files/FILE_ID, the record in Redis.

Invariants: a record exists only once its content is durable under its final name, and a content is never changed. A
deletion removes the record first. A crash can leave content without a record; no request can reach it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from services.disk.files import durable, make_folder, move
from services.disk.layout import Layout
from services.store import answers, keys
from services.store.client import Client
from services.store.index import ids_after, new_id

Purpose = Literal["fine-tune", "assistants", "batch", "vision", "user_data", "evals", "fine-tune-results"]


class StoredFileNotFound(KeyError):
    """No file has this id."""

    def __init__(self, file_id: str) -> None:
        super().__init__(file_id)
        self.file_id = file_id

    def __str__(self) -> str:
        return f"no file {self.file_id!r}"


class FileRecord(BaseModel):
    """One file; times in seconds since the epoch."""

    id: str
    """Its id, and its name on disk."""
    bytes: int
    """Size of its content."""
    created_at: int
    """When its content was durable."""
    filename: str
    """Its name where it was uploaded."""
    purpose: Purpose
    """What it is for."""
    expires_at: int | None = None
    """When it goes; None: never."""


class Files:
    """Writes and reads files."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    def create(
        self, filename: str, purpose: Purpose, chunks: Iterable[bytes], *, expires_after_seconds: int | None = None
    ) -> FileRecord:
        """Store the content durably, then the record."""
        file_id = new_id("file")
        size = self._write(file_id, chunks)
        created_at = int(time.time())
        expires_at = created_at + expires_after_seconds if expires_after_seconds else None
        record = FileRecord(
            id=file_id, bytes=size, created_at=created_at, filename=filename, purpose=purpose, expires_at=expires_at
        )
        pipeline = self._client.pipeline(transaction=True)
        pipeline.set(keys.file(file_id), record.model_dump_json())
        pipeline.zadd(keys.FILES, {file_id: created_at})
        pipeline.execute()
        return record

    def get(self, file_id: str) -> FileRecord:
        """The record. Raises StoredFileNotFound, also for a file that has expired; its content is removed then."""
        stored = self._client.get(keys.file(file_id))
        if stored is None:
            raise StoredFileNotFound(file_id)
        record = FileRecord.model_validate_json(answers.text(stored))
        if record.expires_at is not None and record.expires_at <= time.time():
            self._remove(file_id)
            raise StoredFileNotFound(file_id)
        return record

    def path(self, file_id: str) -> Path:
        """Path of the content of a known file. Raises StoredFileNotFound."""
        return self._layout.files / self.get(file_id).id

    def list(
        self, *, after: str | None = None, limit: int = 20, newest_first: bool = True, purpose: str | None = None
    ) -> tuple[list[FileRecord], bool]:
        """A page of the files with that purpose, and whether there are more. Raises UnknownCursor."""
        page: list[FileRecord] = []
        for file_id in ids_after(self._client, keys.FILES, after, newest_first=newest_first):
            try:
                record = self.get(file_id)
            except StoredFileNotFound:  # deleted: its id stays in the index as a place to page from
                continue
            if purpose is None or record.purpose == purpose:
                if len(page) == limit:
                    return page, True
                page.append(record)
        return page, False

    def delete(self, file_id: str) -> None:
        """Remove record and content. Raises StoredFileNotFound."""
        self.get(file_id)
        self._remove(file_id)

    def _remove(self, file_id: str) -> None:
        self._client.delete(keys.file(file_id))
        (self._layout.files / file_id).unlink(missing_ok=True)

    def _write(self, file_id: str, chunks: Iterable[bytes]) -> int:
        make_folder(self._layout.files)
        temporary = self._layout.files / f".{file_id}"
        with durable(temporary) as file:
            size = sum(file.write(chunk) for chunk in chunks)
        move(temporary, self._layout.files / file_id)
        return size

"""Files: what an upload says, and what is shown of a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from services.api.schemas.base import Named, Request
from services.store.files import FileRecord, Purpose


class ExpiresAfter(Request):
    """When a file goes."""

    anchor: Literal["created_at"]
    """The start of the seconds: always the file's creation."""
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]
    """Seconds from then on: an hour to thirty days."""


class UploadOptions(Request):
    """Options of an upload besides file and purpose."""

    expires_after: ExpiresAfter
    """When the file goes."""


class FileAnswer(Named):
    """A stored file."""

    object: Literal["file"] = "file"
    """Always `file`."""
    bytes: int
    """Size of its content."""
    created_at: int
    """When it was uploaded, in seconds since the epoch."""
    filename: str
    """Its name where it was uploaded."""
    purpose: Purpose
    """Its purpose: `fine-tune` for data of jobs, `fine-tune-results` for their results."""
    expires_at: int | None
    """When it goes, in seconds since the epoch; null: never."""
    status: Literal["processed"] = "processed"
    """Always `processed`: a job reads the file when it is created."""
    status_details: None = None
    """Always null."""

    @classmethod
    def of(cls, record: FileRecord) -> FileAnswer:
        """Of a record in the store."""
        return cls(**record.model_dump())


class DeletedFile(Named):
    """A file that is gone."""

    object: Literal["file"] = "file"
    """Always `file`."""
    deleted: Literal[True] = True
    """Always true."""

"""/v1/files"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Form, Query, UploadFile
from fastapi.responses import FileResponse

from services.api.bodies import parse
from services.api.dependencies import Service, Svc
from services.api.errors import ApiError, bad_request
from services.api.schemas.files import UploadOptions
from services.api.views import file_view, page
from services.store.job.transitions import FINAL

UPLOAD_PATH = "/v1/files"
CHUNK_BYTES = 1 << 20
MAX_FILENAME_CHARACTERS = 255
UploadPurpose = Literal["fine-tune", "assistants", "batch", "vision", "user_data", "evals"]

router = APIRouter(prefix="/v1/files", tags=["files"])


@router.post("")
def create_file(
    service: Svc,
    file: UploadFile,
    purpose: Annotated[UploadPurpose, Form()],
    anchor: Annotated[str | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]")] = None,
) -> dict[str, Any]:
    """Store an uploaded file."""
    filename = file.filename or ""
    if not 1 <= len(filename) <= MAX_FILENAME_CHARACTERS:
        raise bad_request("file", f"Invalid 'file': its name has 1 to {MAX_FILENAME_CHARACTERS} characters")
    expires = _expires_after(anchor, seconds)
    record = service.files.create(filename, purpose, _chunks(file.file), expires_after_seconds=expires)
    return file_view(record)


@router.get("")
def list_files(
    service: Svc,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    """A page of files."""
    records, more = service.files.list(after=after, limit=limit, newest_first=order == "desc", purpose=purpose)
    return page([file_view(record) for record in records], more)


@router.get("/{file_id}")
def retrieve_file(service: Svc, file_id: str) -> dict[str, Any]:
    """One file's record."""
    return file_view(service.files.get(file_id))


@router.delete("/{file_id}")
def delete_file(service: Svc, file_id: str) -> dict[str, Any]:
    """Remove a file that no unfinished job needs."""
    service.files.get(file_id)
    _refuse_if_needed(service, file_id)
    service.files.delete(file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@router.get("/{file_id}/content")
def file_content(service: Svc, file_id: str) -> FileResponse:
    """The raw bytes."""
    record = service.files.get(file_id)
    return FileResponse(service.files.path(file_id), media_type="application/octet-stream", filename=record.filename)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _expires_after(anchor: str | None, seconds: int | None) -> int | None:
    if anchor is None and seconds is None:
        return None
    given = {name: value for name, value in (("anchor", anchor), ("seconds", seconds)) if value is not None}
    return parse(UploadOptions, {"expires_after": given}).expires_after.seconds


def _refuse_if_needed(service: Service, file_id: str) -> None:
    unfinished = (job_id for job_id, status in service.jobs.statuses().items() if status not in FINAL)
    for record in service.jobs.readable(unfinished):
        if file_id in (record.spec.training_file, record.spec.validation_file):
            message = f"Job {record.id}, which is {record.status}, needs this file"
            raise ApiError(409, message, code="file_in_use", param="file_id")

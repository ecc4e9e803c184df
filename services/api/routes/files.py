"""/v1/files"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse

from services.api.bodies import accept
from services.api.dependencies import Service, Svc
from services.api.errors import ApiError, bad_request
from services.api.parameters import After, FileId, Most
from services.api.schemas.base import Page
from services.api.schemas.errors import documented, no_json
from services.api.schemas.files import DeletedFile, FileAnswer, UploadOptions
from services.store.job.transitions import FINAL

UPLOAD_PATH = "/v1/files"
CHUNK_BYTES = 1 << 20
MAX_FILENAME_CHARACTERS = 255
ANCHOR = "What the seconds are counted from: `created_at`."
SECONDS = "Seconds after which the file goes: an hour to thirty days. Left out: never."
UploadPurpose = Literal["fine-tune", "assistants", "batch", "vision", "user_data", "evals"]


CONTENT = no_json("application/octet-stream")
router = APIRouter(prefix="/v1/files", tags=["files"], responses=documented(401, 503))


@router.post("", responses=documented(400, 413))
def create_file(
    service: Svc,
    file: Annotated[UploadFile, File(description="The content, and its name.")],
    purpose: Annotated[UploadPurpose, Form(description="What it is for; jobs read files for `fine-tune` only.")],
    anchor: Annotated[str | None, Form(alias="expires_after[anchor]", description=ANCHOR)] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", description=SECONDS)] = None,
) -> FileAnswer:
    """Store an uploaded file."""
    filename = file.filename or ""
    if not 1 <= len(filename) <= MAX_FILENAME_CHARACTERS:
        raise bad_request("file", f"Invalid 'file': its name has 1 to {MAX_FILENAME_CHARACTERS} characters")
    expires = _expires_after(anchor, seconds)
    record = service.files.create(filename, purpose, _chunks(file.file), expires_after_seconds=expires)
    return FileAnswer.of(record)


@router.get("", responses=documented(400))
def list_files(
    service: Svc,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000), Most] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query(description="By time of creation.")] = "desc",
    purpose: Annotated[str | None, Query(description="Only files for this.")] = None,
) -> Page[FileAnswer]:
    """A page of files."""
    records, more = service.files.list(after=after, limit=limit, newest_first=order == "desc", purpose=purpose)
    return Page.of([FileAnswer.of(record) for record in records], more)


@router.get("/{file_id}", responses=documented(404))
def retrieve_file(service: Svc, file_id: FileId) -> FileAnswer:
    """One file's record."""
    return FileAnswer.of(service.files.get(file_id))


@router.delete("/{file_id}", responses=documented(404, 409))
def delete_file(service: Svc, file_id: FileId) -> DeletedFile:
    """Remove a file that no unfinished job needs."""
    service.files.get(file_id)
    _refuse_if_needed(service, file_id)
    service.files.delete(file_id)
    return DeletedFile(id=file_id)


@router.get("/{file_id}/content", response_class=FileResponse, responses=CONTENT | documented(404))
def file_content(service: Svc, file_id: FileId) -> FileResponse:
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
    return accept(UploadOptions, {"expires_after": given}).value.expires_after.seconds


def _refuse_if_needed(service: Service, file_id: str) -> None:
    for job_id, status in service.jobs.statuses().items():
        if status not in FINAL and service.jobs.names_file(job_id, file_id):
            message = f"Job {job_id}, which is {status}, needs this file"
            raise ApiError(409, message, code="file_in_use", param="file_id")

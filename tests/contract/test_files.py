"""Files over the official SDK."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest


def test_a_file_lives_from_upload_to_deletion(sdk: openai.OpenAI) -> None:
    content = b"\x00\xff raw bytes, not JSON\n" * 1000
    made = sdk.files.create(file=("train.jsonl", content), purpose="fine-tune")
    assert (made.object, made.filename, made.bytes) == ("file", "train.jsonl", len(content))
    assert (made.purpose, made.status) == ("fine-tune", "processed")
    assert sdk.files.retrieve(made.id) == made
    assert sdk.files.wait_for_processing(made.id).status == "processed"
    assert sdk.files.content(made.id).read() == content
    deleted = sdk.files.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "file", True)
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.files.retrieve(made.id)
    assert (missing.value.code, missing.value.param) == ("file_not_found", "file_id")


def test_pages_of_files_follow_order_and_purpose(sdk: openai.OpenAI) -> None:
    made = [sdk.files.create(file=(f"{n}.jsonl", b"x"), purpose="fine-tune").id for n in range(5)]
    sdk.files.create(file=("other", b"x"), purpose="batch")
    newest_first = [file.id for file in sdk.files.list(limit=2, purpose="fine-tune")]
    assert newest_first == sorted(made, reverse=True)
    assert [file.id for file in sdk.files.list(limit=2, purpose="fine-tune", order="asc")] == sorted(made)


def test_deleting_while_listing_reaches_every_file(sdk: openai.OpenAI) -> None:
    for number in range(5):
        sdk.files.create(file=(f"{number}.jsonl", b"x"), purpose="fine-tune")
    for file in sdk.files.list(limit=2):
        sdk.files.delete(file.id)
    assert list(sdk.files.list()) == []


def test_an_expiry_is_kept_and_checked(sdk: openai.OpenAI) -> None:
    made = sdk.files.create(
        file=("a", b"x"), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.files.create(file=("a", b"x"), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 5})
    assert refused.value.param == "expires_after.seconds"


@pytest.mark.parametrize(
    ("fields", "files", "param"),
    [
        ({"purpose": "fine-tune"}, None, "file"),
        ({}, {"file": ("a", b"x")}, "purpose"),
        ({"purpose": "nonsense"}, {"file": ("a", b"x")}, "purpose"),
        ({"purpose": "fine-tune-results"}, {"file": ("a", b"x")}, "purpose"),
        ({"purpose": "fine-tune"}, {"file": ("n" * 300, b"x")}, "file"),
    ],
)
def test_a_bad_upload_names_its_field(http: httpx.Client, fields: dict, files: dict | None, param: str) -> None:
    answer = http.post("/v1/files", data=fields, files=files)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(sdk: openai.OpenAI, data: Path) -> None:
    before = set((data / "files").iterdir()) if (data / "files").exists() else set()
    with pytest.raises(openai.APIStatusError) as refused:
        sdk.files.create(file=("big", b"x" * 2_000_000), purpose="fine-tune")
    assert (refused.value.status_code, refused.value.code) == (413, "payload_too_large")
    assert list(sdk.files.list()) == []
    assert (set((data / "files").iterdir()) if (data / "files").exists() else set()) == before


def test_a_file_that_an_unfinished_job_needs_stays(
    sdk: openai.OpenAI, file_id: str, create: Callable[..., str]
) -> None:
    job_id = create()
    with pytest.raises(openai.ConflictError) as refused:
        sdk.files.delete(file_id)
    assert refused.value.code == "file_in_use"
    assert job_id in refused.value.message
    sdk.fine_tuning.jobs.cancel(job_id)
    assert sdk.files.delete(file_id).deleted is True

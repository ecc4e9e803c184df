"""docs/job.md and docs/job.schema.json are what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.docs.files import ROOT, files
from services.api.schemas.job_file import job_schema

GENERATED = files()
PAGE = GENERATED[ROOT / "docs" / "job.md"]


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_a_generated_file_is_current(path: Path) -> None:
    assert path.read_text() == GENERATED[path], "run `make docs`"


def test_the_page_shows_a_field_with_type_default_and_bounds() -> None:
    assert "| `group_size` | integer | 8 | ≥ 1, ≤ 1024 | Completions of one prompt" in PAGE
    assert "| `sides` | `both`, `outward` | outward |" in PAGE, "SSPO's default as this service has it"
    assert "| `advantage` | `group_std`, `group_mean`, `leave_one_out`, `batch_whitened` |  |" in PAGE


def test_every_row_says_what_its_field_does() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_schema_stands_for_itself_and_refuses_unknown_fields() -> None:
    schema = job_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False

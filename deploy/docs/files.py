"""The generated files: path → text."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.docs.job_page import job_page
from services.api.schemas.job_file import job_schema

ROOT = Path(__file__).parents[2]


def files() -> dict[Path, str]:
    """Every generated file with what it should say."""
    schema = job_schema()
    return {
        ROOT / "docs" / "job.md": job_page(schema),
        ROOT / "docs" / "job.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
    }

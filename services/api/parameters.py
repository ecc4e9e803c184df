"""Parameters that several routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

JobId = Annotated[str, Path(description="The job.")]
FileId = Annotated[str, Path(description="The file.")]
LetterId = Annotated[str, Path(description="The dead letter.")]
After = Annotated[str | None, Query(description="Id of the last item of the page before.")]
Most = Query(description="Items of a page at most.")

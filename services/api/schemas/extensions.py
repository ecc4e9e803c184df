"""What /v1/x is asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services.api.schemas.base import Request


class Scale(Request):
    """How many workers of a kind a job wants."""

    replicas: Annotated[int, Field(ge=0, le=256)]
    """Workers wanted. 0: none, and the job waits."""
    operation_id: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """A name of your own for this change, so that repeating it changes nothing; another body under it is refused."""

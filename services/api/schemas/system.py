"""Health."""

from __future__ import annotations

from typing import Literal

from services.api.schemas.base import AnswerModel


class Health(AnswerModel):
    """How the process is."""

    status: Literal["ok", "ready"]
    """`ok`: it answers. `ready`: it can do its work."""

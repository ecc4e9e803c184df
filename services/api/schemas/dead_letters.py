"""Dead letters: messages nobody could read."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pydantic import JsonValue

from services.api.schemas.base import Named
from services.trajectories.dead.letters import Letter


class LetterAnswer(Named):
    """A dead letter without its payload."""

    object: Literal["x.dead_letter"] = "x.dead_letter"
    """Always `x.dead_letter`."""
    number: int | None
    """The group's number; null: it names none."""
    found_in: str
    """The stream whose consumer could not read it."""
    reason: str
    """Why, for programs."""
    detail: str
    """Why, in words."""
    bytes: int
    """Bytes of the payload as it came; what is kept of it is bounded."""
    created_at: float
    """When it was put aside, in seconds since the epoch."""
    requeue_wanted: bool
    """Whether its prompt is to be issued anew, or was."""
    requeued_as: int | None
    """The number it was issued under; null while the wish waits, or without one."""

    @classmethod
    def of(cls, letter: Letter) -> LetterAnswer:
        """Of a letter in the store."""
        return cls(**dataclasses.asdict(letter))


class LetterDetail(LetterAnswer):
    """A dead letter with what of its payload could be decoded."""

    payload: dict[str, JsonValue]
    """`kept_bytes`, `first_bytes` in hex, and `message`: its fields, or null. Figures that are not finite are null."""

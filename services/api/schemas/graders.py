"""Grader runs and validations: what is asked, and what a grader process answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from services.api.schemas.base import Request
from services.job.graders import GraderBlock


class RunGrader(Request):
    """One sample to be graded."""

    grader: GraderBlock
    """What grades it."""
    model_sample: Annotated[str, Field(max_length=1_000_000)]
    """The completion, as `{{ sample.output_text }}` names it."""
    item: dict[str, Any] = Field(default_factory=dict)
    """The row's other fields, as `{{ item.FIELD }}` names them."""


class ValidateGrader(Request):
    """A grader to be checked."""

    grader: GraderBlock
    """The grader."""

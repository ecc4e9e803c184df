"""Grader runs and validations: the requests, and the answers of a grader process."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from services.api.schemas.base import AnswerModel, Request
from services.job.graders import GraderBlock
from services.job.strict_json import JsonObject


class RunGrader(Request):
    """One sample to be graded."""

    grader: GraderBlock
    """What grades it."""
    model_sample: Annotated[str, Field(max_length=1_000_000)]
    """The completion, as `{{ sample.output_text }}` names it."""
    item: JsonObject = Field(default_factory=dict)
    """The row's other fields, as `{{ item.FIELD }}` names them."""


class ValidateGrader(Request):
    """A grader to be checked."""

    grader: GraderBlock
    """The grader."""


class GraderRunErrors(AnswerModel):
    """What went wrong in a run: one flag for each way it can, as the OpenAI API has them."""

    model_config = ConfigDict(extra="allow")


class GraderRunMetadata(AnswerModel):
    """About a run."""

    name: str
    """The grader's name."""
    type: str
    """The grader's type."""
    execution_time: float
    """Seconds it took."""
    scores: dict[str, float]
    """Parts of the reward by name; empty for a grader without parts."""
    token_usage: int | None
    """Always null: no grader here asks a model."""
    sampled_model_name: str | None
    """Always null: no grader here asks a model."""
    errors: GraderRunErrors
    """What went wrong."""
    x_error_detail: str | None
    """The same in words; null where nothing did."""


class GraderRunAnswer(AnswerModel):
    """The reward of one sample."""

    reward: float
    """The reward; 0 also after a failure, which `metadata.errors` names."""
    sub_rewards: dict[str, float]
    """Parts of the reward by name."""
    model_grader_token_usage_per_model: dict[str, int]
    """Always empty: no grader here asks a model."""
    metadata: GraderRunMetadata
    """About the run."""


class ValidGrader(AnswerModel):
    """A grader that a job would accept."""

    grader: GraderBlock
    """The grader, as the request gave it."""

"""Request bodies as pydantic models. Unknown fields are refused; what OpenAI has and we only record is listed.

`"auto"` in a hyperparameter means: our default, and arrives here as None.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.job.spec import ExtensionSpec, WandbSpec


class Request(BaseModel):
    """Base of every request body."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _auto(value: Any) -> Any:
    return None if value == "auto" else value


Auto = BeforeValidator(_auto)
Count = Annotated[int, Field(ge=1, le=65_536)]
Multiplier = Annotated[float, Field(gt=0, le=100_000)]


class Hyperparameters(Request):
    """Of reinforcement fine-tuning. `x_sspo` wins where both say something."""

    batch_size: Annotated[Count | None, Auto] = None
    """Groups per step."""
    learning_rate_multiplier: Annotated[Multiplier | None, Auto] = None
    n_epochs: Annotated[Count | None, Auto] = None
    """Passes over the training file, which give the steps."""
    eval_interval: Annotated[Count | None, Auto] = None
    """Steps between evaluations."""
    eval_samples: Annotated[Count | None, Auto] = None
    """Rows of the validation file."""
    compute_multiplier: Literal["auto"] | None = None
    """Nothing else yet: `x_sspo.rollout.group_size` says how much is sampled."""
    reasoning_effort: Literal["default"] | None = None


class Reinforcement(Request):
    """`method.reinforcement`."""

    grader: dict[str, Any]
    hyperparameters: Hyperparameters | None = None
    response_format: Any = None


class Method(Request):
    """`method`. The blocks of other types are ignored, as OpenAI does."""

    type: Literal["reinforcement"]
    reinforcement: Reinforcement
    supervised: Any = None
    dpo: Any = None


MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class Integration(Request):
    """One of `integrations`: a place that a job's figures go to."""

    type: Literal["wandb"]
    wandb: WandbSpec


class CreateJob(Request):
    """POST /v1/fine_tuning/jobs."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    training_file: Annotated[str, Field(min_length=1, max_length=128)]
    method: Method
    validation_file: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    suffix: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = None
    """Becomes part of the trained model's name, and so of a path."""
    seed: Annotated[int | None, Field(ge=0, lt=2**32)] = None
    metadata: Annotated[dict[MetadataKey, MetadataValue] | None, Field(max_length=16)] = None
    x_sspo: ExtensionSpec | None = None
    integrations: Annotated[list[Integration] | None, Field(max_length=1)] = None
    """Weights & Biases, or none: OpenAI knows no other type."""
    hyperparameters: Any = None
    response_format: Any = None


RECORDED_ONLY = ("hyperparameters", "response_format")
"""Top-level fields of OpenAI's that are accepted and shown, but change nothing here."""


class Scale(Request):
    """PUT /v1/x/jobs/{id}/rollout_workers and reward_workers."""

    replicas: Annotated[int, Field(ge=0, le=256)]
    operation_id: Annotated[str | None, Field(min_length=1, max_length=128)] = None


class ExpiresAfter(Request):
    """When a file goes: seconds after its creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]


class UploadOptions(Request):
    """What an upload says besides file and purpose."""

    expires_after: ExpiresAfter


class RunGrader(Request):
    """POST /v1/fine_tuning/alpha/graders/run."""

    grader: dict[str, Any]
    model_sample: Annotated[str, Field(max_length=1_000_000)]
    item: dict[str, Any] = {}


class ValidateGrader(Request):
    """POST /v1/fine_tuning/alpha/graders/validate."""

    grader: dict[str, Any]

"""The body of POST /v1/fine_tuning/jobs. Unknown fields are refused. Fields of OpenAI that we only record are listed.

`"auto"` in a hyperparameter means our default; it arrives here as None.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from services.api.schemas.base import Request
from services.job.graders import GraderBlock
from services.job.spec import ExtensionSpec, WandbSpec

Count = Annotated[int, Field(ge=1, le=65_536)]
Multiplier = Annotated[float, Field(gt=0, le=100_000)]


def _auto(value: object) -> object:
    return None if value == "auto" else value


AutoCount = Annotated[Count | None, BeforeValidator(_auto, json_schema_input_type=Count | Literal["auto"] | None)]
AutoMultiplier = Annotated[
    Multiplier | None, BeforeValidator(_auto, json_schema_input_type=Multiplier | Literal["auto"] | None)
]


class Hyperparameters(Request):
    """OpenAI's words for some fields of `x_sspo`, which wins where both say something. `auto` and null: our default."""

    batch_size: AutoCount = None
    """Groups of one step: `x_sspo.learner.batch_size`."""
    learning_rate_multiplier: AutoMultiplier = None
    """Factor on the default learning rate; `x_sspo.learner.learning_rate` names the rate itself."""
    n_epochs: AutoCount = None
    """Passes over the training file, from which the steps are counted: `x_sspo.learner.steps` names them."""
    eval_interval: AutoCount = None
    """Steps between evaluations: `x_sspo.evaluation.every`."""
    eval_samples: AutoCount = None
    """Rows of the validation file that are used: `x_sspo.evaluation.samples`."""
    compute_multiplier: Literal["auto"] | None = None
    """Nothing but `auto` yet: `x_sspo.rollout.group_size` says how much is sampled."""
    reasoning_effort: Literal["default"] | None = None
    """Nothing but `default`: what a model thinks before it answers is part of its completion here."""


class Reinforcement(Request):
    """What is graded, and how much is learnt from it."""

    grader: GraderBlock
    """What gives a completion its reward."""
    hyperparameters: Hyperparameters | None = None
    """OpenAI's words for some fields of `x_sspo`."""
    response_format: object = None
    """Recorded and shown; nothing here acts on it."""


class Method(Request):
    """How the model is trained. The blocks of other methods are ignored, as OpenAI does."""

    type: Literal["reinforcement"]
    """Always `reinforcement`."""
    reinforcement: Reinforcement
    """What is graded, and how much is learnt from it."""
    supervised: object = None
    """Ignored."""
    dpo: object = None
    """Ignored."""


MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class Integration(Request):
    """A place that a job's figures go to."""

    type: Literal["wandb"]
    """Always `wandb`: OpenAI knows no other."""
    wandb: WandbSpec
    """The run at Weights & Biases."""


class CreateJob(Request):
    """A job: what is trained, on what, and how."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Registered name of the model that training starts from; GET /v1/x/models lists them."""
    training_file: Annotated[str, Field(min_length=1, max_length=128)]
    """Id of an uploaded file with the prompts to train on."""
    method: Method
    """How the model is trained."""
    validation_file: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """Id of an uploaded file with the prompts to evaluate on. null: no evaluation."""
    suffix: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = None
    """Part of the trained model's name, to tell it by: letters, digits, `.`, `_` and `-`."""
    seed: Annotated[int | None, Field(ge=0, lt=2**32)] = None
    """The seed of every random number of the job. null: the service draws one, and shows it."""
    metadata: Annotated[dict[MetadataKey, MetadataValue] | None, Field(max_length=16)] = None
    """Up to 16 pairs of text of your own, by which jobs can be listed."""
    x_sspo: ExtensionSpec | None = None
    """Everything that the OpenAI API has no word for. null: all defaults."""
    integrations: Annotated[list[Integration] | None, Field(max_length=1)] = None
    """Weights & Biases, or none."""
    hyperparameters: object = None
    """Recorded and shown; nothing here acts on it. `method.reinforcement.hyperparameters` is what counts."""
    response_format: object = None
    """Recorded and shown; nothing here acts on it."""


RECORDED_ONLY = ("hyperparameters", "response_format")
"""Top-level fields of OpenAI's that are accepted and shown, but change nothing here."""

"""A job as pydantic models: what a request may say in `x_sspo`, and what a worker gets (`JobSpec`).

Invariants: unknown fields are refused, every default is in this package and nowhere else (an objective's in
`sspo_core.config`), and a `JobSpec` is fully resolved: no "auto", no None that a worker would have to interpret.
`JobSpec.assemble` is the one way from blocks to a job.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from services.job.base import StrictModel
from services.job.evaluation import EvaluationSpec
from services.job.graders import GraderBlock
from services.job.guard import GuardSpec
from services.job.learner import LearnerSpec
from services.job.objective import (
    DEFAULT_NAME,
    ObjectiveSchema,
    corrections_config,
    objective_config,
    resolved_objective,
)
from services.job.reward import RewardSpec
from services.job.rollout import RolloutSpec
from services.job.sinks import SinksSpec, WandbSpec
from services.job.strict_json import JsonObject

__all__ = [
    "EvaluationSpec",
    "ExtensionSpec",
    "GuardSpec",
    "JobSpec",
    "LearnerSpec",
    "ResolvedBlocks",
    "RewardSpec",
    "RolloutSpec",
    "SinksSpec",
    "WandbSpec",
    "corrections_config",
    "derived_seed",
    "objective_config",
]

Objective = Annotated[JsonObject, ObjectiveSchema]


class ExtensionSpec(StrictModel):
    """The `x_sspo` block of a job: everything that the OpenAI API has no word for."""

    objective: Objective = Field(default_factory=lambda: {"name": DEFAULT_NAME}, validate_default=True)
    """What is optimised: `name`, and the fields of that objective (docs/objectives.md). Without a name it is SSPO;
    SSPO without a gate has the one that measurements chose (docs/gates.md)."""
    rollout: RolloutSpec = RolloutSpec()
    """How completions are sampled."""
    learner: LearnerSpec = Field(default=LearnerSpec(), validate_default=True)
    """How a batch becomes an update, and what the learner waits for and keeps."""
    reward: RewardSpec = RewardSpec()
    """How completions are graded."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How the job is evaluated; only with a `validation_file`."""
    guard: GuardSpec = GuardSpec()
    """Limits on figures, and what is done when they are crossed."""
    sinks: SinksSpec = SinksSpec()
    """Where step records go besides our own files."""

    @field_validator("objective")
    @classmethod
    def _resolved(cls, value: JsonObject) -> JsonObject:
        return resolved_objective(value)

    @field_validator("learner")
    @classmethod
    def _advantage_of_the_objective(cls, value: LearnerSpec, info: ValidationInfo) -> LearnerSpec:
        objective = info.data.get("objective")
        if objective is None or "advantage" in value.model_fields_set:  # None: it was refused, which is said anyway
            return value
        return value.model_copy(update={"advantage": objective_config(objective).advantage})

    @model_validator(mode="after")
    def _a_throttle_has_something_to_tighten(self) -> ExtensionSpec:
        ahead = 0 if self.learner.synchronous else self.learner.max_staleness
        if "throttle" in self.guard.actions and ahead == 0 and self.learner.updates_per_step == 1:
            raise ValueError(
                "guard.actions: throttle has nothing to tighten in a job with one update a step and no staleness"
            )
        return self

    @model_validator(mode="after")
    def _uninformative_groups_are_told_by_their_group(self) -> ExtensionSpec:
        if self.learner.drop_uninformative_groups and self.learner.advantage == "batch_whitened":
            raise ValueError(
                "learner.drop_uninformative_groups: under batch_whitened advantages a group with equal rewards is "
                "compared with the other groups, and has a gradient"
            )
        return self

    @model_validator(mode="after")
    def _corrections_have_a_weight(self) -> ExtensionSpec:
        corrections = corrections_config(self.learner.corrections)
        weighs = corrections.importance != "full"
        if weighs and not self.learner.proximal_logprobs and objective_config(self.objective).has_ratio:
            raise ValueError(
                f"learner.corrections.importance: {corrections.importance!r} weighs proximal/behaviour, so it needs "
                "learner.proximal_logprobs: without them the objective's own ratio is policy/behaviour already"
            )
        if corrections.level == "token" and objective_config(self.objective).shares_ratio:
            raise ValueError("learner.corrections.level: the tokens of this objective share their ratios")
        return self


class ResolvedBlocks(StrictModel):
    """The blocks of a job with every default filled in, as answers show them in `x_sspo`."""

    objective: JsonObject
    """What is optimised: `name`, and every field of that objective."""
    rollout: RolloutSpec
    """How completions are sampled."""
    learner: LearnerSpec
    """How a batch becomes an update."""
    reward: RewardSpec
    """How completions are graded."""
    evaluation: EvaluationSpec | None = None
    """How the job is evaluated; null without a validation file."""
    guard: GuardSpec = GuardSpec()
    """Limits on figures, and what is done when they are crossed."""
    sinks: SinksSpec = SinksSpec()
    """Where step records go besides our own files."""


class JobSpec(ResolvedBlocks):
    """Everything a worker needs to know of its job, resolved."""

    job_id: str
    """The job's id."""
    model: str
    """Registered name of the model that training starts from."""
    training_file: str
    """Id of the file with the prompts to train on."""
    validation_file: str | None = None
    """Id of the file with the prompts to evaluate on; null: no evaluation."""
    seed: int = Field(ge=0, lt=2**32)
    """The seed of every random number of the job."""
    grader: GraderBlock
    """As the request gave it; `services.job.graders` parses it."""
    wandb: WandbSpec | None = None
    """From the request's `integrations`; null: none."""

    def blocks(self) -> JsonObject:
        """The blocks that an answer shows as `x_sspo`, as plain values."""
        return self.model_dump(include=set(ResolvedBlocks.model_fields))

    @classmethod
    def assemble(
        cls,
        extension: ExtensionSpec,
        *,
        job_id: str,
        model: str,
        training_file: str,
        seed: int,
        grader: JsonObject,
        validation_file: str | None = None,
        wandb: WandbSpec | None = None,
    ) -> JobSpec:
        """The job of these blocks. Without a validation file there is nothing to evaluate on."""
        return cls(
            job_id=job_id,
            model=model,
            training_file=training_file,
            validation_file=validation_file,
            seed=seed,
            grader=grader,
            objective=extension.objective,
            rollout=extension.rollout,
            learner=extension.learner,
            reward=extension.reward,
            evaluation=extension.evaluation if validation_file is not None else None,
            guard=extension.guard,
            sinks=extension.sinks,
            wandb=wandb,
        )


def derived_seed(*parts: int | str) -> int:
    """A 62-bit seed from its parts, the same on every machine: (job seed, group number), (job seed, step), ..."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 2

"""Jobs, their events and their checkpoints, as the OpenAI API has them. Our own fields begin with `x_`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from services.api.schemas.base import AnswerModel, Named
from services.job.spec import ResolvedBlocks
from services.records.outcomes import CheckpointRecord
from services.store.job.events import Event, Kind, Level
from services.store.job.record import JobError, JobRecord
from services.store.job.transitions import Status

STRICT_STATUS = {Status.PAUSED: Status.QUEUED, Status.PAUSING: Status.RUNNING}
"""Statuses for clients that know no pause."""


class JobFailure(AnswerModel):
    """Why a job failed."""

    code: str
    """For programs: stays the same while words change."""
    message: str
    """In words."""
    param: str | None
    """The request's field at fault; null where none is."""

    @classmethod
    def of(cls, error: JobError | None) -> JobFailure | None:
        """Of what the store has."""
        return None if error is None else cls(code=error.code, message=error.message, param=error.param)


class JobAnswer(Named):
    """A job. Times are seconds since the epoch."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    """Always `fine_tuning.job`."""
    created_at: int
    """When it was accepted."""
    finished_at: int | None
    """When it ended; null before."""
    status: Status
    """Where it is in its life."""
    model: str
    """The model that training started from."""
    fine_tuned_model: str | None
    """Name of the trained model; null before there is one."""
    organization_id: str = "org-sspo"
    """Always the same: there are no organisations here."""
    training_file: str
    """File with the prompts to train on."""
    validation_file: str | None
    """File with the prompts to evaluate on; null: none."""
    result_files: list[str]
    """Files with the figures of each step, once it has succeeded."""
    trained_tokens: int
    """Completion tokens that were trained."""
    estimated_finish: None = None
    """Always null."""
    seed: int
    """The seed of every random number of the job."""
    error: JobFailure | None
    """Why it failed; null otherwise."""
    hyperparameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Always empty: a field of older clients. `x_sspo` has what counts."""
    integrations: JsonValue
    """As the request gave it."""
    metadata: JsonValue
    """As the request gave it."""
    method: JsonValue
    """As the request gave it."""
    suffix: str | None
    """As the request gave it."""
    x_sspo: ResolvedBlocks
    """What the job trains with, every default filled in."""
    x_state: Status | None = Field(default=None, exclude_if=lambda state: state is None)
    """The true status, where `status` shows one that strict clients of the OpenAI API know; absent otherwise."""

    @classmethod
    def of(cls, record: JobRecord, *, strict_status: bool) -> JobAnswer:
        """Of a record in the store; `strict_status`: show only states that the OpenAI API has."""
        asked, spec = record.request, record.spec
        hidden = strict_status and record.status in STRICT_STATUS
        return cls(
            id=record.id,
            created_at=record.created_at,
            finished_at=record.finished_at,
            status=STRICT_STATUS[record.status] if hidden else record.status,
            model=spec.model,
            fine_tuned_model=record.fine_tuned_model,
            training_file=spec.training_file,
            validation_file=spec.validation_file,
            result_files=record.result_files,
            trained_tokens=record.trained_tokens,
            seed=spec.seed,
            error=JobFailure.of(record.error),
            integrations=asked.get("integrations"),
            metadata=asked.get("metadata"),
            method=asked["method"],
            suffix=asked.get("suffix"),
            x_sspo=spec,
            x_state=record.status if hidden else None,
        )


class EventAnswer(Named):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    """Always `fine_tuning.job.event`."""
    created_at: int
    """When, in seconds since the epoch."""
    level: Level
    """How grave it is."""
    type: Kind
    """`metrics` has figures in `data`."""
    message: str
    """In words."""
    data: dict[str, JsonValue] | None
    """Its figures; null for those without."""

    @classmethod
    def of(cls, event: Event) -> EventAnswer:
        """Of an event in the store."""
        return cls(**event.model_dump())


class CheckpointAnswer(Named):
    """A checkpoint that the job can go back to."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    """Always `fine_tuning.job.checkpoint`."""
    created_at: int
    """When it was written, in seconds since the epoch."""
    fine_tuned_model_checkpoint: str
    """The name of a model made of it."""
    fine_tuning_job_id: str
    """Its job."""
    step_number: int
    """Steps trained."""
    metrics: dict[str, JsonValue]
    """Figures of the step before it."""

    @classmethod
    def of(cls, record: JobRecord, checkpoint: CheckpointRecord) -> CheckpointAnswer:
        """Of a record in the store: every figure but its path and time is a metric."""
        step = checkpoint.step
        return cls(
            id=f"{checkpoint_prefix(record)}{step}",
            created_at=checkpoint.created_at,
            fine_tuned_model_checkpoint=f"{record.model_name}:ckpt-step-{step}",
            fine_tuning_job_id=record.id,
            step_number=step,
            metrics={name: value for name, value in checkpoint.plain().items() if name not in ("path", "created_at")},
        )


def checkpoint_prefix(record: JobRecord) -> str:
    """The beginning of a job's checkpoint ids; the step follows."""
    return f"ftckpt-{record.id.removeprefix('ftjob-')}-"

"""Turns a create request into a job, without I/O: the caller hands in what it knows of models and files.

Every refusal is a 400 that names the field. Precedence: `x_sspo`, then `method.reinforcement.hyperparameters`, then the
defaults of `services.job`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from services.api.bodies import Accepted
from services.api.errors import bad_request
from services.api.schemas.create import RECORDED_ONLY, CreateJob, Hyperparameters
from services.disk.layout import UnknownModel
from services.job.graders import GraderError, parse_grader
from services.job.spec import ExtensionSpec, JobSpec, LearnerSpec
from services.job.strict_json import JsonObject
from services.store.job.record import JobRecord, WaitingFor
from services.store.job.transitions import WAITS_FOR, Status

HYPERPARAMETERS = "method.reinforcement.hyperparameters"
GRADER = "method.reinforcement.grader"


@dataclass(frozen=True)
class Known:
    """Models and files that a request may refer to."""

    find_model: Callable[[str], object]
    """Raises UnknownModel."""
    purpose_of: Callable[[str], str | None]
    """Purpose of a file; None when it does not exist."""
    rows_of: Callable[[str], int]
    """Lines of a file."""
    try_grader: Callable[[JsonObject], None]
    """Has the grader process look at a grader whose fields are right. Raises GraderError."""


@dataclass(frozen=True)
class JobDraft:
    """A job ready to be stored, and what its owner should be told about it."""

    record: JobRecord
    warnings: tuple[str, ...]


def build(body: Accepted[CreateJob], known: Known, *, job_id: str, created_at: int, seed: int) -> JobDraft:
    """The job that a request asks for; `seed` is for one that names none. Raises ApiError."""
    request = body.value
    _check_references(request, known)
    spec = JobSpec.assemble(
        _extension(request, known),
        job_id=job_id,
        model=request.model,
        training_file=request.training_file,
        validation_file=request.validation_file,
        seed=seed if request.seed is None else request.seed,
        grader=request.method.reinforcement.grader,
        wandb=request.integrations[0].wandb if request.integrations else None,
    )
    record = JobRecord(
        id=job_id,
        created_at=created_at,
        request=body.raw,
        spec=spec,
        rollout_workers=spec.rollout.workers,
        reward_workers=spec.reward.workers,
        waiting_for=WaitingFor.of(wait, created_at) if (wait := WAITS_FOR[Status.VALIDATING_FILES]) else None,
    )
    return JobDraft(record, _warnings(request))


def with_id(record: JobRecord, job_id: str) -> JobRecord:
    """The same job under another id."""
    return record.model_copy(update={"id": job_id, "spec": record.spec.model_copy(update={"job_id": job_id})})


def _check_references(request: CreateJob, known: Known) -> None:
    try:
        known.find_model(request.model)
    except UnknownModel as error:
        raise bad_request("model", str(error), "model_not_found") from error
    _check_file(request.training_file, "training_file", known)
    if request.validation_file is not None:
        _check_file(request.validation_file, "validation_file", known)
    try:
        parse_grader(request.method.reinforcement.grader)
        known.try_grader(request.method.reinforcement.grader)
    except GraderError as error:
        param = f"{GRADER}.{error.field}" if error.field else GRADER
        raise bad_request(param, f"Invalid '{param}': {error.message}", "invalid_grader") from error


def _check_file(file_id: str, param: str, known: Known) -> None:
    purpose = known.purpose_of(file_id)
    if purpose is None:
        raise bad_request(param, f"Invalid '{param}': no file {file_id!r}", "file_not_found")
    if purpose != "fine-tune":
        raise bad_request(param, f"Invalid '{param}': file {file_id!r} has purpose {purpose!r}, not 'fine-tune'")


def _extension(request: CreateJob, known: Known) -> ExtensionSpec:
    """The blocks of `x_sspo`, and where they say nothing what the hyperparameters say."""
    given = request.x_sspo or ExtensionSpec()
    if request.validation_file is None and "evaluation" in given.model_fields_set:
        raise bad_request("x_sspo.evaluation", "Invalid 'x_sspo.evaluation': evaluation needs a validation_file")
    asked = request.method.reinforcement.hyperparameters or Hyperparameters()
    rate = asked.learning_rate_multiplier
    filled = _fill(given, "learner", "batch_size", asked.batch_size, "batch_size")
    base = LearnerSpec().learning_rate
    filled = _fill(filled, "learner", "learning_rate", rate and rate * base, "learning_rate_multiplier")
    filled = _fill(filled, "evaluation", "every", asked.eval_interval, "eval_interval")
    filled = _fill(filled, "evaluation", "samples", asked.eval_samples, "eval_samples")
    if asked.n_epochs is None or "steps" in given.learner.model_fields_set:
        return filled
    rows = known.rows_of(request.training_file)
    if rows == 0:
        raise bad_request("training_file", f"Invalid 'training_file': {request.training_file} has no rows")
    return _fill(filled, "learner", "steps", math.ceil(rows * asked.n_epochs / filled.learner.batch_size), "n_epochs")


def _fill(given: ExtensionSpec, block: str, field: str, value: float | None, hyperparameter: str) -> ExtensionSpec:
    """`given` with the value in a field that its author left open. Raises ApiError (400) for one out of bounds."""
    if value is None or field in getattr(given, block).model_fields_set:
        return given
    plain = given.model_dump(exclude_unset=True)
    plain[block] = {**plain.get(block, {}), field: value}
    try:
        return ExtensionSpec.model_validate(plain)
    except ValidationError as error:
        param, reason = f"{HYPERPARAMETERS}.{hyperparameter}", error.errors()[0]["msg"]
        message = f"Invalid '{param}': it makes x_sspo.{block}.{field} {value}; {reason[:1].lower()}{reason[1:]}"
        raise bad_request(param, message) from error


def _warnings(request: CreateJob) -> tuple[str, ...]:
    ignored = [name for name in RECORDED_ONLY if getattr(request, name)]
    if request.method.reinforcement.response_format:
        ignored.append("method.reinforcement.response_format")
    return tuple(f"{name} is recorded, but nothing here acts on it" for name in ignored)

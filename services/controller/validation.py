"""`validating_files`: everything that can be known wrong with a job's files before an engine starts.

Raises `InvalidFile` with the file and its line in the message; the job fails with that.
"""

from __future__ import annotations

from typing import Any

from services.controller.issuing.prompts import PromptEncoder
from services.disk.layout import Layout
from services.job.datasets import DatasetError, iter_rows
from services.job.graders import GraderError, RegexMatchGrader, parse_grader
from services.job.spec import JobSpec
from services.reward.errors import GraderCrashed, GraderNotStarted
from services.reward.sandbox import GraderProcess

GRADER = "method.reinforcement.grader"
TRIES = 3


class InvalidFile(ValueError):
    """A job's file can't be used."""

    code = "invalid_file"

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class InvalidGrader(InvalidFile):
    """A job's grader can't be used."""

    code = "invalid_grader"


def validate_files(spec: JobSpec, layout: Layout) -> None:
    """Try the grader, then read both files whole: rows, item fields the grader names, prompt lengths, context."""
    _check_grader(spec)
    encoder = PromptEncoder(layout.model(spec.model), spec.rollout)
    files: dict[str, str | None] = {"training_file": spec.training_file, "validation_file": spec.validation_file}
    for param, file_id in files.items():
        if file_id is not None:
            _validate(spec, layout, encoder, file_id, param)


def _check_grader(spec: JobSpec) -> None:
    """Have a pattern compiled by a process that can be stopped, as those of the reward workers are.

    A process that dies says nothing of the grader, so it is asked again.
    """
    if not isinstance(parse_grader(spec.grader), RegexMatchGrader):
        return
    with GraderProcess() as process:
        for left in reversed(range(TRIES)):
            try:
                process.check(spec.grader, spec.reward.timeout_seconds)
                return
            except GraderError as error:
                param = f"{GRADER}.{error.field}" if error.field else GRADER
                raise InvalidGrader(f"Invalid '{param}': {error.message}", param) from error
            except (GraderCrashed, GraderNotStarted):
                if not left:
                    raise


def _validate(spec: JobSpec, layout: Layout, encoder: PromptEncoder, file_id: str, param: str) -> None:
    grader: Any = parse_grader(spec.grader)
    try:
        for row in iter_rows(layout.files / file_id, file_id, grader=grader, param=param):
            try:
                encoder.encode(row)
            except ValueError as error:
                raise DatasetError(file_id, row.number + 1, str(error), param) from error
    except DatasetError as error:
        raise InvalidFile(str(error), param) from error
    except OSError as error:
        raise InvalidFile(f"{file_id}: {error.strerror}", param) from error

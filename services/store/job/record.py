"""A job's record: what was asked for, and where the job is; and how it is stored.

Invariant: a record is one hash whose values are JSON (`status` is plain), so that fields change one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, Field, TypeAdapter

from services.job.spec import JobSpec
from services.job.strict_json import JsonObject, as_object
from services.store.job.transitions import ENDED, WAITS_FOR, Status
from services.store.job.waits import Wait, WaitKey


class JobUnreadable(ValueError):
    """A record that this version can't read: damaged, or written by another version."""

    def __init__(self, job_id: str, error: Exception) -> None:
        super().__init__(f"the record of job {job_id!r} can't be read: {error}")
        self.job_id = job_id


class WaitingFor(BaseModel):
    """The wait of a job that is not final, and when it began (seconds since the epoch)."""

    what: str
    """In words."""
    since: float
    """When this wait began; it stays while `key` and `step` do."""
    key: WaitKey | None = None
    """The kind of wait; None in a record that an older version wrote."""
    step: int | None = None
    """The step that the job waits for, if each step is a wait of its own; None otherwise."""

    @classmethod
    def of(cls, wait: Wait, since: float) -> WaitingFor:
        """A wait that began then."""
        return cls(what=wait.words, since=since, key=wait.key, step=wait.step)

    def is_of(self, wait: Wait) -> bool:
        """Whether this is that wait, even in other words."""
        return (self.key, self.step) == (wait.key, wait.step)


class JobError(BaseModel):
    """Why a job failed; `param` names the request's field at fault, if one is."""

    code: str
    """For programs: stays the same while words change."""
    message: str
    """In words."""
    param: str | None = None
    """The request's field at fault; None: no field is."""


class JobRecord(BaseModel):
    """One job. Times are seconds since the epoch."""

    id: str
    """Its id."""
    status: Status = Status.VALIDATING_FILES
    """Where it is in its life."""
    created_at: int
    """When it was accepted."""
    finished_at: int | None = None
    """When it ended; None before."""
    request: JsonObject
    """The create body as accepted."""
    spec: JobSpec
    """What workers know of it, resolved."""
    rollout_workers: int = Field(ge=0)
    """Rollout workers that are wanted now."""
    reward_workers: int = Field(ge=0)
    """Reward workers that are wanted now."""
    running_since: float = 0.0
    """When it last began to run. Whoever resumed it knew of everything earlier."""
    stage: str = Status.VALIDATING_FILES.value
    """What is being done for it now."""
    waiting_for: WaitingFor | None = None
    """What it waits for; None of a job that is final."""
    error: JobError | None = None
    """Why it failed; None otherwise."""
    fine_tuned_model: str | None = None
    """Name of the trained model; None before there is one."""
    trained_tokens: int = 0
    """Completion tokens that were trained."""
    result_files: list[str] = []
    """Ids of the files with its figures, once it has succeeded."""
    cleaned_as: Status | None = None
    """The ended state for which the controller has removed the actors (and closed the journal of a final job)."""

    @property
    def is_manned(self) -> bool:
        """Whether workers of both kinds are wanted; without them the job waits for a person."""
        return self.rollout_workers > 0 and self.reward_workers > 0

    @property
    def metadata(self) -> Mapping[str, object]:
        """The pairs of text by which it can be found."""
        return as_object(self.request.get("metadata") or {})

    @property
    def model_name(self) -> str:
        """The name that the trained model gets: `ft:BASE:sspo:SUFFIX:ID`; BASE is without its organisation."""
        base = self.spec.model.rsplit("/", 1)[-1]
        return f"ft:{base}:sspo:{self.request.get('suffix') or ''}:{self.id.removeprefix('ftjob-')}"


FIELDS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(cast(Any, field.annotation)) for name, field in JobRecord.model_fields.items()
}


def encode_fields(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields of a record as they are stored. Raises TypeError for an unknown name, ValidationError for a bad value."""
    unknown = sorted(fields.keys() - FIELDS.keys())
    if unknown:
        raise TypeError(f"a job has no field {unknown[0]!r}")
    encoded = {}
    for name, value in fields.items():
        encoded[name] = FIELDS[name].dump_json(FIELDS[name].validate_python(value)).decode()
    return encoded


def decode(job_id: str, values: Mapping[str, str]) -> JobRecord:
    """The record of a hash as it is stored. Raises JobUnreadable."""
    try:
        plain = {name: value if name == "status" else json.loads(value) for name, value in values.items()}
        return JobRecord.model_validate(plain)
    except ValueError as error:
        raise JobUnreadable(job_id, error) from error


def entry_fields(to: Status, now: float, given: Mapping[str, object]) -> dict[str, str]:
    """Fields that a job's record gets on entering a state, unless the caller gives others."""
    wait = WAITS_FOR[to]
    fields: JsonObject = {
        "stage": to.value,
        "waiting_for": WaitingFor.of(wait, now) if wait else None,
        "finished_at": int(now) if to in ENDED else None,
    }
    if to is Status.RUNNING:
        fields["running_since"] = now
    if to is Status.QUEUED:
        fields |= {"error": None, "cleaned_as": None}
    return encode_fields({**fields, **given})

"""Job records: what was asked for, and where the job is.

Invariants: `status` changes through `transition` and `act` only, one Lua call each that writes status, fields and event
together; every other field may be updated at any time, but never brings a missing job into being. A record is one hash
whose values are JSON (`status` is plain), so that fields change one by one.
"""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import structlog
from pydantic import BaseModel, Field, TypeAdapter

from services.job.spec import JobSpec
from services.job.strict_json import JsonObject, as_object
from services.store import answers, keys
from services.store.client import Client, call
from services.store.index import ids_after
from services.store.job.transitions import ENDED, WAITS_FOR, Action, IllegalTransition, Status, reach
from services.store.job.waits import Wait, WaitKey

log = structlog.get_logger()


class JobNotFound(KeyError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no job {self.job_id!r}"


class JobUnreadable(ValueError):
    """A record that this version can't read: damaged, or written by another version."""

    def __init__(self, job_id: str, error: Exception) -> None:
        super().__init__(f"the record of job {job_id!r} can't be read: {error}")
        self.job_id = job_id


class WaitingFor(BaseModel):
    """What a job that is not final waits for, and since when (seconds since the epoch)."""

    what: str
    """In words."""
    since: float
    """When this wait began; it stays while `key` and `step` do."""
    key: WaitKey | None = None
    """What is waited for; None of a record that an older version wrote."""
    step: int | None = None
    """The step that is waited for, where each step is a wait of its own."""

    @classmethod
    def of(cls, wait: Wait, since: float) -> WaitingFor:
        """A wait that began then."""
        return cls(what=wait.words, since=since, key=wait.key, step=wait.step)

    def is_of(self, wait: Wait) -> bool:
        """Whether this is that wait, whatever the words."""
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
    """When it last began to run: who resumed it knew of what had happened before."""
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


_FIELDS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(cast(Any, field.annotation)) for name, field in JobRecord.model_fields.items()
}


def encode_fields(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields of a record as they are stored. Raises TypeError for an unknown name, ValidationError for a bad value."""
    unknown = sorted(fields.keys() - _FIELDS.keys())
    if unknown:
        raise TypeError(f"a job has no field {unknown[0]!r}")
    encoded = {}
    for name, value in fields.items():
        encoded[name] = _FIELDS[name].dump_json(_FIELDS[name].validate_python(value)).decode()
    return encoded


def _decode(job_id: str, values: Mapping[str, str]) -> JobRecord:
    """Raises JobUnreadable."""
    try:
        plain = {name: value if name == "status" else json.loads(value) for name, value in values.items()}
        return JobRecord.model_validate(plain)
    except ValueError as error:
        raise JobUnreadable(job_id, error) from error


def _entry_fields(to: Status, now: float, given: Mapping[str, object]) -> dict[str, str]:
    """What a job's record says on entering a state, where the caller says nothing else."""
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


class Jobs:
    """Reads and writes job records."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, record: JobRecord) -> bool:
        """Store a new job with its first event. False when the id exists already: nothing changes then.

        Raises JobUnreadable for a record that could not be read back.
        """
        values = encode_fields({name: getattr(record, name) for name in _FIELDS}) | {"status": record.status.value}
        _decode(record.id, values)
        key_list = [keys.job(record.id), keys.events(record.id)]
        created = call(
            self._client, "create_job", key_list, [json.dumps(values), "Created the job", int(record.created_at)]
        )
        # Repeated on purpose when the record exists: a crash between the two would hide an accepted job for ever.
        self._client.zadd(keys.JOBS, {record.id: record.created_at}, nx=True)
        return bool(created)

    def get(self, job_id: str) -> JobRecord:
        """The record. Raises JobNotFound and JobUnreadable."""
        stored = self._client.hgetall(keys.job(job_id))
        if not stored:
            raise JobNotFound(job_id)
        return _decode(job_id, answers.fields(stored))

    def readable(self, job_ids: Iterable[str]) -> Iterator[JobRecord]:
        """The records of these jobs; one that can't be read is left out and named in the log."""
        for job_id in job_ids:
            try:
                yield self.get(job_id)
            except JobUnreadable as error:
                log.warning("job_unreadable", job=job_id, reason=str(error))

    def list(
        self, *, after: str | None = None, limit: int = 20, metadata: Mapping[str, str] | None = None
    ) -> tuple[builtins.list[JobRecord], bool]:
        """A page, newest first, of the jobs that carry all of `metadata`; and whether there are more.

        A record that can't be read is left out. Raises UnknownCursor.
        """
        wanted = (metadata or {}).items()
        page: list[JobRecord] = []
        for record in self.readable(ids_after(self._client, keys.JOBS, after)):
            if wanted <= record.metadata.items():
                if len(page) == limit:
                    return page, True
                page.append(record)
        return page, False

    def ids(self) -> builtins.list[str]:
        """All job ids, oldest first."""
        return answers.texts(self._client.zrange(keys.JOBS, 0, -1))

    def statuses(self) -> dict[str, Status]:
        """The status of every job, oldest first."""
        ids = self.ids()
        pipeline = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hget(keys.job(job_id), "status")
        return {job_id: Status(answers.text(status)) for job_id, status in zip(ids, pipeline.execute(), strict=True)}

    def transition(self, job_id: str, to: Status, *, by: str, message: str | None = None, **fields: Any) -> bool:
        """Enter `to`, with `fields` and an event, atomically. False if the job already was there: nothing changes then.

        Raises IllegalTransition for what the table does not have, and JobNotFound.
        """
        return self.act(job_id, reach(to), by=by, message=message, **fields)

    def act(self, job_id: str, action: Action, *, by: str, message: str | None = None, **fields: Any) -> bool:
        """Do what a person asks for, from wherever the job is now. Same answers as `transition`."""
        if "status" in fields:
            raise TypeError("status is what a transition decides")
        now = time.time()
        targets = sorted(set(action.moves.values()))
        arguments = [
            json.dumps(sorted(action.holds)),
            json.dumps(dict(action.moves)),
            json.dumps({to: _entry_fields(to, now, fields) for to in targets}),
            json.dumps({to: message or f"The job is now {to.value}" for to in targets}),
            by,
            "error" if Status.FAILED in targets else "info",
            int(now),
        ]
        outcome, status = call(self._client, "transition", [keys.job(job_id), keys.events(job_id)], arguments)
        if outcome == b"missing":
            raise JobNotFound(job_id)
        if outcome == b"illegal":
            raise IllegalTransition(job_id, Status(answers.text(status)), action.name)
        return bool(outcome == b"moved")

    def update(self, job_id: str, *, expected: Status | None = None, **fields: Any) -> None:
        """Set fields other than the status; with `expected`, only while the job has that status. Raises JobNotFound."""
        if "status" in fields:
            raise TypeError("status changes through transition() only")
        flat = [part for pair in encode_fields(fields).items() for part in pair]
        if not call(self._client, "update_job", [keys.job(job_id)], [expected or "", *flat]):
            raise JobNotFound(job_id)

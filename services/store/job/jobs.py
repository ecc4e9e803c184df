"""Jobs as they are stored.

Invariants: `status` changes through `transition` and `act` only, one Lua call each that writes status, fields and event
together; every other field may be updated at any time; an update of a missing job creates nothing.
"""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Iterable, Iterator, Mapping

import structlog

from services.store import answers, keys
from services.store.client import Client, call
from services.store.index import ids_after
from services.store.job.record import FIELDS, JobRecord, JobUnreadable, decode, encode_fields, entry_fields
from services.store.job.transitions import Action, IllegalTransition, Status, reach

log = structlog.get_logger()


class JobNotFound(KeyError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no job {self.job_id!r}"


class Jobs:
    """Reads and writes job records."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, record: JobRecord) -> bool:
        """Store a new job with its first event. False when the id exists already: nothing changes then.

        Raises JobUnreadable for a record that could not be read back.
        """
        values = encode_fields({name: getattr(record, name) for name in FIELDS}) | {"status": record.status.value}
        decode(record.id, values)
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
        return decode(job_id, answers.fields(stored))

    def readable(self, job_ids: Iterable[str]) -> Iterator[JobRecord]:
        """The records of these jobs; one that can't be read is left out and named in the log."""
        for job_id in job_ids:
            try:
                yield self.get(job_id)
            except (JobUnreadable, JobNotFound) as error:
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
        """The status of every job, oldest first; a job without one that we know is left out."""
        ids = self.ids()
        pipeline = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hget(keys.job(job_id), "status")
        named = {job_id: answers.text(status) for job_id, status in zip(ids, pipeline.execute(), strict=True)}
        return {job_id: Status(status) for job_id, status in named.items() if status in set(Status)}

    def names_file(self, job_id: str, file_id: str) -> bool:
        """Whether a job's spec names this file; asked of the stored text, so that it holds of records we can't read."""
        spec = self._client.hget(keys.job(job_id), "spec")
        return json.dumps(file_id) in answers.text(spec)

    def transition(self, job_id: str, to: Status, *, by: str, message: str | None = None, **fields: object) -> bool:
        """Enter `to`, with `fields` and an event, atomically. False if the job already was there: nothing changes then.

        Raises IllegalTransition for what the table does not have, and JobNotFound.
        """
        return self.act(job_id, reach(to), by=by, message=message, **fields)

    def act(self, job_id: str, action: Action, *, by: str, message: str | None = None, **fields: object) -> bool:
        """Do what a person asks for, from wherever the job is now. Same answers as `transition`."""
        if "status" in fields:
            raise TypeError("status is what a transition decides")
        now = time.time()
        targets = sorted(set(action.moves.values()))
        arguments = [
            json.dumps(sorted(action.holds)),
            json.dumps(dict(action.moves)),
            json.dumps({to: entry_fields(to, now, fields) for to in targets}),
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

    def update(self, job_id: str, *, expected: Status | None = None, **fields: object) -> None:
        """Set fields other than the status; with `expected`, only while the job has that status. Raises JobNotFound."""
        if "status" in fields:
            raise TypeError("status changes through transition() only")
        flat = [part for pair in encode_fields(fields).items() for part in pair]
        if not call(self._client, "update_job", [keys.job(job_id)], [expected or "", *flat]):
            raise JobNotFound(job_id)

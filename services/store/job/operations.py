"""Changes of desired replicas, repeatable without harm.

Invariant: the desired count, the operation that asked for it and its event are one Lua call. An `operation_id` belongs
to one body for ever. The same body again changes nothing; another body is a conflict.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from services.records.worker import ScaledKind
from services.store import answers, keys
from services.store.client import Client, call
from services.store.job.jobs import JobNotFound
from services.store.job.transitions import FINAL, IllegalTransition, Status


class OperationConflict(Exception):
    """This operation id already stands for another body."""

    def __init__(self, operation_id: str) -> None:
        super().__init__(f"operation {operation_id!r} was already used for another change")
        self.operation_id = operation_id


@dataclass(frozen=True)
class Scaled:
    """The outcome of a scaling. `applied` is False for an operation that was seen before."""

    replicas: int
    previous: int
    applied: bool


class Operations:
    """Applies scaling operations."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def scale(
        self, job_id: str, kind: ScaledKind, replicas: int, *, by: str, operation_id: str | None = None
    ) -> Scaled:
        """Set the desired replicas of one kind. The last write wins.

        Raises JobNotFound, IllegalTransition for a job that is final, and OperationConflict.
        """
        body = {"kind": kind, "replicas": replicas}
        arguments: list[str | int] = [
            json.dumps(sorted(FINAL)),
            f"{kind}_workers",
            replicas,
            operation_id or "",
            json.dumps(body, sort_keys=True),
            f"{kind.capitalize()} workers wanted: {replicas}",
            json.dumps({**body, "by": by, "operation_id": operation_id}),
            int(time.time()),
        ]
        key_list = [keys.job(job_id), keys.operations(job_id), keys.events(job_id)]
        outcome, detail = (answers.text(part) for part in call(self._client, "scale", key_list, arguments))
        if outcome == "missing":
            raise JobNotFound(job_id)
        if outcome == "final":
            raise IllegalTransition(job_id, Status(detail), "scale")
        if outcome == "conflict":
            raise OperationConflict(operation_id or "")
        return Scaled(replicas, int(detail), outcome == "scaled")

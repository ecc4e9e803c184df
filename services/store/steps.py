"""What the learner says of each step and each checkpoint: the time series behind metrics and dashboards.

Invariants: a step's record is replaced when the step is trained again (replay, rollback). Records above the step put
last belong to a lineage that was rolled back, and are never shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from services.store import answers, keys
from services.store.client import Client

LATEST = "latest"


def _ascending(stored: Mapping[Any, Any]) -> list[dict[str, Any]]:
    records = answers.fields(stored)
    return [json.loads(records[step]) for step in sorted(records, key=int)]


class Steps:
    """Step records: plain dicts of figures, with the step under "step"."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, step: int, record: dict[str, Any]) -> None:
        """Store the record of a step. Figures that are not finite become null."""
        self._client.hset(
            keys.steps(job_id), mapping={str(step): answers.dump({**record, "step": step}), LATEST: str(step)}
        )

    def since(self, job_id: str, step: int = 0) -> list[dict[str, Any]]:
        """The records of `step` and later, ascending."""
        latest = self._latest_step(job_id)
        if latest is None:
            return []
        known = {int(name) for name in answers.texts(self._client.hkeys(keys.steps(job_id))) if name != LATEST}
        wanted = [str(number) for number in sorted(known) if step <= number <= latest]
        stored: Any = self._client.hmget(keys.steps(job_id), wanted) if wanted else []
        return [json.loads(value) for value in stored]

    def latest(self, job_id: str) -> dict[str, Any] | None:
        """The record put last, or None before the first step."""
        step = self._latest_step(job_id)
        stored: Any = None if step is None else self._client.hget(keys.steps(job_id), str(step))
        return json.loads(stored) if stored else None

    def put_evaluation(self, job_id: str, step: int, record: dict[str, Any]) -> None:
        """Store the outcome of the evaluation after `step` steps. Figures that are not finite become null."""
        self._client.hset(keys.evaluations(job_id), str(step), answers.dump({**record, "step": step}))

    def evaluations(self, job_id: str) -> list[dict[str, Any]]:
        """The evaluations so far, ascending by step."""
        return _ascending(self._client.hgetall(keys.evaluations(job_id)))

    def _latest_step(self, job_id: str) -> int | None:
        stored: Any = self._client.hget(keys.steps(job_id), LATEST)
        return int(stored) if stored else None


class Checkpoints:
    """Checkpoint records: plain dicts, with the step under "step"."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, step: int, record: dict[str, Any]) -> None:
        """Store the record of a checkpoint that is on disk. Figures that are not finite become null."""
        self._client.hset(keys.checkpoints(job_id), str(step), answers.dump({**record, "step": step}))

    def list(self, job_id: str) -> list[dict[str, Any]]:
        """All records, ascending by step."""
        return _ascending(self._client.hgetall(keys.checkpoints(job_id)))

    def remove(self, job_id: str, step: int) -> None:
        """Forget a checkpoint that is no longer on disk."""
        self._client.hdel(keys.checkpoints(job_id), str(step))

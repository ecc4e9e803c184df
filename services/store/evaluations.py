"""What evaluations found: one record a job and step."""

from __future__ import annotations

import json
from typing import Any

from services.store import answers, keys
from services.store.client import Client


class Evaluations:
    """Evaluation records: plain dicts, with the step under "step"."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, step: int, record: dict[str, Any]) -> None:
        """Store the record of the evaluation after `step` steps."""
        self._client.hset(keys.evaluations(job_id), str(step), answers.dump({**record, "step": step}))

    def list(self, job_id: str) -> list[dict[str, Any]]:
        """All records, ascending by step."""
        stored = answers.fields(self._client.hgetall(keys.evaluations(job_id)))
        return [json.loads(stored[step]) for step in sorted(stored, key=int)]

"""What the learner says of each step and each checkpoint: the time series behind metrics and dashboards.

Invariants: all step records of a job lie on disk, one JSON line each in the order they were said; Redis holds the
newest, so that a job of any length costs it the same. A step's record is replaced when the step is trained again
(replay, rollback). Records above the step put last belong to a lineage that was rolled back, and are never shown.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, BinaryIO

from services.files import append_line, whole_lines_at
from services.layout import Layout
from services.store import answers, keys
from services.store.client import Client

LATEST = "latest"
STEP_FIRST = re.compile(rb'\{"step":(\d+)[,}]')
KEPT = 64
"""Step records of a job that stay in Redis."""


def _ascending(stored: Mapping[Any, Any]) -> list[dict[str, Any]]:
    records = answers.fields(stored)
    return [json.loads(records[step]) for step in sorted(records, key=int)]


class Steps:
    """Step records: plain dicts of figures, with the step under "step"."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    def put(self, job_id: str, step: int, record: dict[str, Any]) -> None:
        """Store the record of a step. Figures that are not finite become null."""
        key, line = keys.steps(job_id), answers.dump({"step": step} | record | {"step": step})
        append_line(self._layout.job(job_id).steps, line)
        self._client.hset(key, mapping={str(step): line, LATEST: str(step)})
        old = [name for name in answers.texts(self._client.hkeys(key)) if name != LATEST and int(name) <= step - KEPT]
        if old:
            self._client.hdel(key, *old)

    def since(self, job_id: str, step: int = 0) -> list[dict[str, Any]]:
        """The records of `step` and later, ascending."""
        return list(self.each(job_id, step))

    def each(self, job_id: str, step: int = 0) -> Iterator[dict[str, Any]]:
        """The same, one at a time: those of a long job are more than one wants in memory at once."""
        stored: Any = self._client.hget(keys.steps(job_id), LATEST)
        latest = -1 if stored is None else int(stored)
        names = answers.texts(self._client.hkeys(keys.steps(job_id)))
        recent = {int(name) for name in names if name != LATEST and int(name) <= latest}
        unbroken = latest
        while unbroken - 1 in recent:
            unbroken -= 1
        archive = self._layout.job(job_id).steps
        places = {} if 0 <= unbroken <= step else _places(archive)
        wanted = {number for number in recent if number >= step}
        known = self._read(job_id, wanted)
        if len(known) < len(wanted):  # removed from Redis since
            places = _places(archive)
        last = max({**places, **known}, default=-1) if latest < 0 else latest
        with open(archive if places else os.devnull, "rb") as file:
            for number in sorted({*places, *known}):
                if step <= number <= last:
                    yield known[number] if number in known else _record_at(file, places[number])

    def latest(self, job_id: str) -> dict[str, Any] | None:
        """The record put last, or None before the first step."""
        step: Any = self._client.hget(keys.steps(job_id), LATEST)
        stored: Any = None if step is None else self._client.hget(keys.steps(job_id), answers.text(step))
        return json.loads(stored) if stored else None

    def newest(self, job_id: str, count: int) -> list[dict[str, Any]]:
        """The newest `count` records (at most `KEPT`), ascending; from Redis, but for a while after a rollback."""
        latest: Any = self._client.hget(keys.steps(job_id), LATEST)
        if latest is None:
            return []
        last = int(answers.text(latest))
        first = max(0, last - min(count, KEPT) + 1)
        known = self._read(job_id, set(range(first, last + 1)))
        if len(known) < last + 1 - first:  # after a rollback
            return self.since(job_id, first)
        return [known[step] for step in sorted(known)]

    def _read(self, job_id: str, steps: Set[int]) -> dict[int, dict[str, Any]]:
        """Those of some steps that Redis has."""
        if not steps:
            return {}
        wanted = sorted(steps)
        lines: Any = self._client.hmget(keys.steps(job_id), [str(step) for step in wanted])
        return {step: json.loads(line) for step, line in zip(wanted, lines, strict=True) if line is not None}


def _places(archive: Path) -> dict[int, int]:
    """Step → where its line begins, of the lineage that survives: each line undoes what was said of its step and later
    ones."""
    places: dict[int, int] = {}
    for place, line in whole_lines_at(archive):
        step = _step_of(line)
        while places and next(reversed(places)) >= step:
            places.popitem()
        places[step] = place
    return places


def _step_of(line: bytes) -> int:
    """`put` writes it first, so that a line need not be parsed for it; lines of older versions are."""
    first = STEP_FIRST.match(line)
    return int(first[1]) if first else int(json.loads(line)["step"])


def _record_at(file: BinaryIO, place: int) -> dict[str, Any]:
    file.seek(place)
    record: dict[str, Any] = json.loads(file.readline())
    return record


class Evaluations:
    """Outcomes of evaluations: plain dicts, with the steps trained before under "step"."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, step: int, record: dict[str, Any]) -> None:
        """Store the outcome of the evaluation after `step` steps. Figures that are not finite become null."""
        self._client.hset(keys.evaluations(job_id), str(step), answers.dump({**record, "step": step}))

    def list(self, job_id: str) -> list[dict[str, Any]]:
        """All so far, ascending by step."""
        return _ascending(self._client.hgetall(keys.evaluations(job_id)))

    def forget_after(self, job_id: str, step: int) -> None:
        """Training went back to `step`: later outcomes are of weights that were undone."""
        undone = [str(record["step"]) for record in self.list(job_id) if record["step"] > step]
        if undone:
            self._client.hdel(keys.evaluations(job_id), *undone)


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

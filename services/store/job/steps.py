"""Records of steps and checkpoints: the time series behind metrics and dashboards.

Invariants: all step records of a job lie on disk, one JSON line each in the order of writing. Redis holds only the
newest, so a long job costs it no more than a short one. A step's record is replaced when the step is trained again
(replay, rollback). Records above the step put last belong to a lineage that was rolled back, and are never shown.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from services.disk.files import append_line, whole_lines_at
from services.disk.layout import Layout
from services.records.outcomes import CheckpointRecord, EvaluationRecord
from services.records.record import Record
from services.records.step import StepRecord
from services.store import answers, keys
from services.store.client import Client

LATEST = "latest"
STEP_FIRST = re.compile(rb'\{"step":(\d+)[,}]')
KEPT = 64
"""Step records of a job that stay in Redis."""


R = TypeVar("R", bound=Record)


def _ascending(kind: type[R], stored: Mapping[Any, Any]) -> list[R]:
    records = answers.fields(stored)
    return [kind.from_json(records[step]) for step in sorted(records, key=int)]


class Steps:
    """Step records. Reading one that can't be understood raises ValueError."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    def put(self, job_id: str, record: StepRecord) -> None:
        """Store the record of a step. Figures that are not finite become null."""
        key, step, line = keys.steps(job_id), record.step, record.to_json()
        append_line(self._layout.job(job_id).steps, line)
        self._client.hset(key, mapping={str(step): line, LATEST: str(step)})
        old = [name for name in answers.texts(self._client.hkeys(key)) if name != LATEST and int(name) <= step - KEPT]
        if old:
            self._client.hdel(key, *old)

    def since(self, job_id: str, step: int = 0) -> list[StepRecord]:
        """The records of `step` and later, ascending."""
        return list(self.each(job_id, step))

    def each(self, job_id: str, step: int = 0) -> Iterator[StepRecord]:
        """The same records one at a time, because all records of a long job take much memory."""
        recent = self._recent(job_id, step)
        yield from _archived(self._layout.job(job_id).steps, step) if recent is None else recent

    def latest(self, job_id: str) -> StepRecord | None:
        """The record put last, or None before the first step."""
        last = self._last(job_id)
        stored: Any = None if last is None else self._client.hget(keys.steps(job_id), str(last))
        return StepRecord.from_json(stored) if stored else None

    def newest(self, job_id: str, count: int) -> list[StepRecord]:
        """The newest `count` records, ascending: quick up to `KEPT`."""
        last = self._last(job_id)
        return [] if last is None else self.since(job_id, max(0, last - count + 1))

    def _last(self, job_id: str) -> int | None:
        """The step put last."""
        stored: Any = self._client.hget(keys.steps(job_id), LATEST)
        return None if stored is None else int(stored)

    def _recent(self, job_id: str, step: int) -> list[StepRecord] | None:
        """The records of `step` and later from Redis; None unless it has all of them, and of one lineage."""
        last = self._last(job_id)
        if last is None or last - step >= KEPT:
            return None
        names = [LATEST, *map(str, range(step, last + 1))]
        newest, *lines = cast(list[bytes | None], self._client.hmget(keys.steps(job_id), names))
        if newest is None or int(newest) < last:  # rolled back meanwhile
            return None
        records = [StepRecord.from_json(line) for line in lines if line is not None]
        return records if len(records) == len(lines) else None


def _archived(archive: Path, step: int) -> Iterator[StepRecord]:
    """The records of `step` and later from disk, which has all of them."""
    places = _places(archive)
    with open(archive if places else os.devnull, "rb") as file:
        for number, place in places.items():
            if number >= step:
                file.seek(place)
                yield StepRecord.from_json(file.readline())


def _places(archive: Path) -> dict[int, int]:
    """Step → start of its line, for the lineage that survives: each line replaces the lines of its step and of later
    ones."""
    places: dict[int, int] = {}
    for place, line in whole_lines_at(archive):
        step = _step_of(line)
        while places and next(reversed(places)) >= step:
            places.popitem()
        places[step] = place
    return places


def _step_of(line: bytes) -> int:
    """The step of a line. It is written first, so only lines of older versions have to be parsed."""
    first = STEP_FIRST.match(line)
    return int(first[1]) if first else int(json.loads(line)["step"])


class Evaluations:
    """Outcomes of evaluations, by the steps trained before."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, record: EvaluationRecord) -> None:
        """Store the outcome of an evaluation. Figures that are not finite become null."""
        self._client.hset(keys.evaluations(job_id), str(record.step), record.to_json())

    def list(self, job_id: str) -> list[EvaluationRecord]:
        """All so far, ascending by step."""
        return _ascending(EvaluationRecord, self._client.hgetall(keys.evaluations(job_id)))

    def forget_after(self, job_id: str, step: int) -> None:
        """Training went back to `step`: later outcomes are of weights that were undone."""
        undone = [str(record.step) for record in self.list(job_id) if record.step > step]
        if undone:
            self._client.hdel(keys.evaluations(job_id), *undone)


class Checkpoints:
    """Records of checkpoints, by the steps trained."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, record: CheckpointRecord) -> None:
        """Store the record of a checkpoint that is on disk. Figures that are not finite become null."""
        self._client.hset(keys.checkpoints(job_id), str(record.step), record.to_json())

    def list(self, job_id: str) -> list[CheckpointRecord]:
        """All records, ascending by step."""
        return _ascending(CheckpointRecord, self._client.hgetall(keys.checkpoints(job_id)))

    def remove(self, job_id: str, step: int) -> None:
        """Forget a checkpoint that is no longer on disk."""
        self._client.hdel(keys.checkpoints(job_id), str(step))

"""Waiting for a full batch: reads the `scored` stream, and keeps the staleness promise.

A wait on machines has a deadline (`learner.wait_seconds`) and ends in `BatchTimeout`. A wait on a person (zero
replicas) has no deadline: its clock stands still. A look returns a value, and the loop acts on it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from services.job.spec import JobSpec
from services.learner.batches.assembler import Assembler, Batch
from services.learner.batches.staleness import is_too_stale
from services.learner.errors import BatchTimeout
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.trajectories import streams
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import PROMPTS, SCORED, TRAJECTORIES, Entry
from services.trajectories.outcomes import DropReason
from services.trajectories.stream_stats import steps_in_flight

log = structlog.get_logger()

CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class Ready:
    """A whole batch, with the drops met on the way."""

    batch: Batch
    staleness_seconds: float
    """Time for which the batch was held back, because its step would have made groups in flight too stale."""


@dataclass(frozen=True)
class Drops:
    """Groups to drop, and no batch yet."""

    batch: Batch


@dataclass(frozen=True)
class Nothing:
    """Neither a batch nor a drop."""


Look = Ready | Drops | Nothing


class BatchWait:
    """Feeds the assembler from the stream, a look at a time."""

    def __init__(self, spec: JobSpec, client: Client, assembler: Assembler) -> None:
        self._spec = spec
        self._client = client
        self._assembler = assembler
        self._jobs = Jobs(client)
        self._letters = DeadLetters(client)
        self._last_id = "0"
        self._step = -1
        self._began = self._deadline_from = self._next_check = self._held_since = 0.0

    def look(self, step: int) -> Look:
        """Look once for a batch of `step`; the clocks begin with the first look for a step."""
        if step != self._step:
            self._begin(step)
        upstream = self._steps_upstream()
        self._read()
        if self._must_wait(step, upstream) and not self._patience_is_over():
            self._held_since = self._held_since or time.monotonic()
            batch = Batch()
        else:
            batch = self._assembler.assemble(step)
        if batch.groups:
            held, self._step = self._held_since, -1
            return Ready(batch, time.monotonic() - held if held else 0.0)
        return Drops(batch) if batch.dropped or batch.entry_ids else Nothing()

    def check_deadline(self) -> None:
        """Raises BatchTimeout when the step looked for last has waited too long. To be asked after a look's drops are
        committed: the assembler has given them away."""
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            if not self._jobs.get(self._spec.job_id).is_manned:
                self._deadline_from = now
        if now - self._deadline_from > self._spec.learner.wait_seconds:
            found = f"{len(self._assembler)} of {self._spec.learner.batch_size} groups"
            raise BatchTimeout(f"waited {self._spec.learner.wait_seconds:.0f} s for step {self._step}: {found}")

    def _begin(self, step: int) -> None:
        self._step = step
        self._began = self._deadline_from = time.monotonic()
        self._next_check = self._held_since = 0.0

    def _read(self) -> None:
        while entries := streams.read_after(self._client, self._spec.job_id, SCORED, self._last_id):
            cursor = streams.cursor(self._client, self._spec.job_id)
            for entry in entries:
                if entry.number < cursor:
                    self._assembler.feed(entry, self._bury)
                else:
                    self._bury(entry, f"number {entry.number} was never issued")
            self._last_id = entries[-1].id

    def _bury(self, entry: Entry, why: str) -> bool:
        """Keep a copy of a message that can't be read; answers whether its number ends here."""
        log.warning("group_malformed", job=self._spec.job_id, number=entry.number, entry=entry.id, reason=why)
        return self._letters.put(self._spec.job_id, entry, SCORED, DropReason.MALFORMED, why)

    def _steps_upstream(self) -> list[int]:
        """Policy `wait`: the oldest possible step of each group that is in flight and not scored yet.

        Read in the direction in which groups move, and before `scored` is: one that moves on meanwhile is seen twice,
        never missed. A prompt is sampled with weights at least as new as those it was issued under.
        """
        if self._spec.learner.staleness_policy != "wait":
            return []
        names = (PROMPTS, TRAJECTORIES)
        return [at for name in names for _, at in steps_in_flight(self._client, self._spec.job_id, name)]

    def _must_wait(self, step: int, upstream: list[int]) -> bool:
        """Whether this step would make a group in flight too stale, although it can still be part of the batch."""
        learner = self._spec.learner
        if len(self._assembler) < learner.batch_size:
            return False
        return any(is_too_stale(at, step + 1, learner.max_staleness) for at in upstream)

    def _patience_is_over(self) -> bool:
        return time.monotonic() - self._began > self._spec.learner.wait_seconds / 2

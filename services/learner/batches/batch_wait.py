"""Waiting for a full batch: reads the `scored` stream, settles drops at once, and keeps the staleness promise.

A wait on machines has a deadline (`learner.wait_seconds`) and ends in `BatchTimeout`. A wait on a person (zero
replicas) has none: the clock stands still then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from services.job.spec import JobSpec
from services.journal.journal import Header
from services.learner.batches.assembler import Assembler, Batch
from services.learner.errors import BatchTimeout
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.trajectories import streams
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import PROMPTS, SCORED, TRAJECTORIES, Entry
from services.trajectories.outcomes import DropReason
from services.trajectories.stream_stats import steps_in_flight

log = structlog.get_logger()

POLL_SECONDS = 0.05
CHECK_SECONDS = 1.0


class BatchWait:
    """Feeds the assembler from the stream until it has a batch."""

    def __init__(self, spec: JobSpec, client: Client, assembler: Assembler) -> None:
        self._spec = spec
        self._client = client
        self._assembler = assembler
        self._letters = DeadLetters(client)
        self._last_id = "0"
        self.staleness_seconds = 0.0
        """Of the last wait: with a whole batch at hand, for groups that this step would have made too stale."""

    def next_batch(
        self,
        step: int,
        *,
        settle: Callable[[Batch], Header],
        remind: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> Batch | None:
        """The batch of `step`; None when stopping. Raises BatchTimeout.

        Drops met on the way are settled at once; `remind` is called about every second.
        """
        patience = _Patience(self._spec, self._client, remind)
        self.staleness_seconds, held_since = 0.0, 0.0
        while not stopping():
            upstream = self._steps_upstream()
            self._read()
            if self._must_wait(step, upstream) and not patience.staleness_is_over():
                batch = Batch()
                held_since = held_since or time.monotonic()
            else:
                batch = self._assembler.assemble(step)
            if batch.groups:
                self.staleness_seconds = time.monotonic() - held_since if held_since else 0.0
                return batch
            if batch.dropped or batch.entry_ids:
                settle(batch)
            patience.check(f"step {step}: {len(self._assembler)} of {self._spec.learner.batch_size} groups")
            time.sleep(POLL_SECONDS)
        return None

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
        """Keep a copy of what can't be read; whether its number ends with it."""
        log.warning("group_malformed", job=self._spec.job_id, number=entry.number, entry=entry.id, reason=why)
        return self._letters.put(self._spec.job_id, entry, SCORED, DropReason.MALFORMED, why)

    def _steps_upstream(self) -> list[int]:
        """Policy `wait`: the oldest step that each group in flight may have, of those that are not scored yet.

        Read in the direction in which groups move, and before `scored` is: one that moves on meanwhile is seen twice,
        never missed. A prompt is sampled with weights at least as new as those it was issued under.
        """
        if self._spec.learner.staleness_policy != "wait":
            return []
        names = (PROMPTS, TRAJECTORIES)
        return [at for name in names for _, at in steps_in_flight(self._client, self._spec.job_id, name)]

    def _must_wait(self, step: int, upstream: list[int]) -> bool:
        """Would this step make a group in flight too stale, that can still be a part of its batch?"""
        learner = self._spec.learner
        if len(self._assembler) < learner.batch_size:
            return False
        needed = step + 1 - learner.max_staleness  # older than this is too stale at the next step
        return any(at < needed for at in upstream)


class _Patience:
    """The deadlines of one wait."""

    def __init__(self, spec: JobSpec, client: Client, remind: Callable[[], None]) -> None:
        self._spec = spec
        self._jobs = Jobs(client)
        self._remind = remind
        self._started = self._deadline_from = time.monotonic()
        self._next_check = 0.0

    def staleness_is_over(self) -> bool:
        return time.monotonic() - self._started > self._spec.learner.wait_seconds / 2

    def check(self, what: str) -> None:
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            self._remind()
            job = self._jobs.get(self._spec.job_id)
            if job.rollout_workers == 0 or job.reward_workers == 0:
                self._deadline_from = now
        if now - self._deadline_from > self._spec.learner.wait_seconds:
            raise BatchTimeout(f"waited {self._spec.learner.wait_seconds:.0f} s for {what}")

"""Waiting for a full batch: reads the `scored` stream, settles drops at once, and keeps the staleness promise.

A wait on machines has a deadline (`learner.wait_seconds`) and ends in `BatchTimeout`. A wait on a person (zero
replicas) has none: the clock stands still then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from services.learner.assembler import Assembler, Batch
from services.learner.errors import BatchTimeout
from services.learner.journal import Header
from services.spec import JobSpec
from services.store.client import Client
from services.store.jobs import Jobs
from services.store.registry import Registry
from services.trajectories import streams
from services.trajectories.dead_letters import DeadLetters
from services.trajectories.entries import Entry
from services.trajectories.ledger import DropReason

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
        while not stopping():
            self._read()
            if self._must_wait(step) and not patience.staleness_is_over():
                batch = Batch()
            else:
                batch = self._assembler.assemble(step)
            if batch.groups:
                return batch
            if batch.dropped or batch.entry_ids:
                settle(batch)
            patience.check(f"step {step}: {len(self._assembler)} of {self._spec.learner.batch_size} groups")
            time.sleep(POLL_SECONDS)
        return None

    def _read(self) -> None:
        while entries := streams.read_after(self._client, self._spec.job_id, streams.SCORED, self._last_id):
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
        return self._letters.put(self._spec.job_id, entry, streams.SCORED, DropReason.MALFORMED, why)

    def _must_wait(self, step: int) -> bool:
        """Policy `wait`: would this step make a group in flight too stale?"""
        learner = self._spec.learner
        if learner.staleness_policy != "wait" or len(self._assembler) < learner.batch_size:
            return False
        needed = step + 1 - learner.max_staleness  # older than this is too stale at the next step
        ours = sorted(self._assembler.steps_waiting())[learner.batch_size :]
        job = self._spec.job_id
        sampled = [at for _, at in streams.steps_in_flight(self._client, job, streams.TRAJECTORIES)]
        running = [
            int(worker.detail["oldest_step"])
            for worker in Registry(self._client).list(job)
            if worker.kind == "rollout" and worker.detail.get("oldest_step") is not None
        ]
        return any(at < needed for at in [*ours, *sampled, *running])


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

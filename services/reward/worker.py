"""A reward worker: takes sampled groups, has them scored, hands them on.

Invariants: an entry is held, and its lease refreshed, from its taking until its hand-over or return. One thread grades,
refreshes and writes the heartbeat, between grader calls that each end by their deadline: whoever hangs stops
refreshing, and others take over. Evaluation yields to training, but every few groups it gets its turn.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass, field

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.reward.scorer import Scorer
from services.reward.tokens import CompletionDecoder
from services.store.client import Client
from services.store.job.registry import Registry, WorkerRecord, WorkerState
from services.trajectories.entries import EVAL_SCORED, EVAL_TRAJECTORIES, SCORED, TRAJECTORIES, Entry
from services.trajectories.stage import Stage

TICK_SECONDS = 1.0
"""Period of heartbeat, lease refresh and take-over."""
LEASE_SECONDS = 20.0
BLOCK_SECONDS = 0.5
EVALUATION_EVERY = 8
"""Of this many groups one may be an evaluation's although training waits."""


class _DrainDeadline(Exception):
    """Draining took too long: what is held goes back."""


@dataclass
class _Lane:
    """One pair of streams, and the entries of its source that this worker holds, oldest first."""

    stage: Stage
    held: deque[Entry] = field(default_factory=deque)

    def take(self, block_seconds: float = 0.0) -> bool:
        """Whether there is an entry to work on."""
        if not self.held and (entry := self.stage.take(block_seconds)):
            self.held.append(entry)
        return bool(self.held)

    def take_over(self) -> None:
        held = {entry.id for entry in self.held}
        self.held.extend(entry for entry in self.stage.take_over(LEASE_SECONDS) if entry.id not in held)

    def refresh(self) -> None:
        self.stage.refresh([entry.id for entry in self.held])

    def give_back(self) -> None:
        while self.held:
            self.stage.give_back(self.held.popleft())


class RewardWorker:
    """Grades the groups of one job until it is drained. `run` and `drain` may be called from different threads."""

    def __init__(
        self, spec: JobSpec, worker_id: str, client: Client, layout: Layout, metrics_address: str = ""
    ) -> None:
        self._spec = spec
        self._id = worker_id
        self._layout = layout
        self._metrics_address = metrics_address
        self._registry = Registry(client)
        self._training = _Lane(Stage(client, spec.job_id, TRAJECTORIES, SCORED, worker_id))
        self._evaluation = _Lane(Stage(client, spec.job_id, EVAL_TRAJECTORIES, EVAL_SCORED, worker_id))
        self._draining = threading.Event()
        self._drain_deadline = float("inf")
        self._next_tick = 0.0
        self._next_take_over = 0.0
        self._handled = 0

    def drain(self) -> None:
        """Take no new groups; `run` ends after the group in hand, or gives it back after `drain_seconds`."""
        if not self._draining.is_set():
            self._drain_deadline = time.monotonic() + self._spec.rollout.drain_seconds
            self._draining.set()

    def run(self) -> str:
        """Work until drained; answers "drained". Raises UnknownModel, GraderUnavailable, StoreError."""
        self._heartbeat("starting")
        decoder = CompletionDecoder(self._layout.model(self._spec.model))
        scorer = Scorer(self._spec, self._id, decoder, on_progress=self._tick)
        with closing(scorer), suppress(_DrainDeadline):
            scorer.start()
            while not self._draining.is_set():
                self._tick()
                self._take_over_when_due()
                if lane := self._next_lane():
                    self._handle(lane, scorer)
        self._training.give_back()
        self._evaluation.give_back()
        self._heartbeat("draining")
        return "drained"

    def _next_lane(self) -> _Lane | None:
        """The lane whose first held entry is next; waits a moment when both are empty."""
        order = [self._training, self._evaluation]
        if self._handled % EVALUATION_EVERY == EVALUATION_EVERY - 1:
            order.reverse()
        for lane in order:
            if lane.take():
                return lane
        return self._training if self._training.take(BLOCK_SECONDS) else None

    def _handle(self, lane: _Lane, scorer: Scorer) -> None:
        entry = lane.held[0]
        scored = scorer.score(entry)
        lane.held.popleft()
        self._handled += 1
        if scored.buried:
            lane.stage.bury(entry, scored.buried, scored.detail, scored.payload)
        else:
            lane.stage.hand_over(entry, scored.payload, entry.step)

    def _take_over_when_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_take_over:
            self._next_take_over = now + TICK_SECONDS
            self._training.take_over()
            self._evaluation.take_over()

    def _tick(self) -> None:
        """Heartbeat and leases, about every second. Raises _DrainDeadline."""
        now = time.monotonic()
        if now >= self._drain_deadline:
            raise _DrainDeadline
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._training.refresh()
            self._evaluation.refresh()
            self._heartbeat("draining" if self._draining.is_set() else "ready")

    def _heartbeat(self, state: WorkerState) -> None:
        record = WorkerRecord(
            id=self._id,
            kind="reward",
            state=state,
            policy_version=0,
            node=socket.gethostname(),
            pid=os.getpid(),
            heartbeat=time.time(),
            detail={"metrics_address": self._metrics_address},
        )
        self._registry.put(self._spec.job_id, record)

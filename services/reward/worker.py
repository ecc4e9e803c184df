"""A reward worker: takes sampled groups, has them scored, hands them on.

Invariants: an entry is held, and its lease refreshed, from its taking until its hand-over or return. One thread grades,
refreshes and writes the heartbeat, between grader calls that each end by their deadline. So a worker that hangs stops
refreshing, and others take over its entries. Training goes before evaluation, but evaluation gets a turn every few
groups.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.reward.scorer import Scorer
from services.reward.tokens import CompletionDecoder
from services.store.client import Client
from services.store.job.presence import Presence
from services.trajectories.entries import EVAL_SCORED, EVAL_TRAJECTORIES, SCORED, TRAJECTORIES, Entry
from services.trajectories.lane import Lane

TICK_SECONDS = 1.0
"""Period of heartbeat, lease refresh and take-over."""
LEASE_SECONDS = 20.0
BLOCK_SECONDS = 0.5
EVALUATION_EVERY = 8
"""Of this many groups one may be an evaluation's although training waits."""


class _DrainDeadline(Exception):
    """Draining took too long: entries that are held go back."""


class RewardWorker:
    """Grades the groups of one job until it is drained. `run` and `drain` may be called from different threads."""

    def __init__(
        self, spec: JobSpec, worker_id: str, client: Client, layout: Layout, metrics_address: str = ""
    ) -> None:
        self._spec = spec
        self._id = worker_id
        self._layout = layout
        self._presence = Presence(client, spec.job_id, worker_id, "reward", metrics_address)
        self._training = Lane(client, spec.job_id, TRAJECTORIES, SCORED, worker_id)
        self._evaluation = Lane(client, spec.job_id, EVAL_TRAJECTORIES, EVAL_SCORED, worker_id)
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
        """Work until drained; answers "drained". Raises UnknownModel, GraderNotStarted, StoreError."""
        self._presence.say("starting")
        decoder = CompletionDecoder(self._layout.model(self._spec.model))
        scorer = Scorer(self._spec, self._id, decoder, on_progress=self._tick)
        with closing(scorer), suppress(_DrainDeadline):
            scorer.start()
            while not self._draining.is_set():
                self._tick()
                self._take_over_when_due()
                self._handle_next(scorer)
        self._training.give_back()
        self._evaluation.give_back()
        self._presence.say("draining")
        return "drained"

    def _handle_next(self, scorer: Scorer) -> None:
        """Score one group of the lane whose turn it is; wait a moment for one when both are empty."""
        order = [self._training, self._evaluation]
        if self._handled % EVALUATION_EVERY == EVALUATION_EVERY - 1:
            order.reverse()
        for lane, block_seconds in ((order[0], 0.0), (order[1], 0.0), (self._training, BLOCK_SECONDS)):
            if entry := lane.take(block_seconds):
                self._handle(lane, entry, scorer)
                return

    def _handle(self, lane: Lane, entry: Entry, scorer: Scorer) -> None:
        scored = scorer.score(entry)
        self._handled += 1
        if scored.failure is not None:
            lane.bury(entry, scored.failure, scored.payload)
        else:
            lane.hand_over(entry, scored.payload, entry.step)

    def _take_over_when_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_take_over:
            self._next_take_over = now + TICK_SECONDS
            self._training.take_over(LEASE_SECONDS)
            self._evaluation.take_over(LEASE_SECONDS)

    def _tick(self) -> None:
        """Heartbeat and leases, about every second. Raises _DrainDeadline."""
        now = time.monotonic()
        if now >= self._drain_deadline:
            raise _DrainDeadline
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._training.refresh()
            self._evaluation.refresh()
            self._presence.say("draining" if self._draining.is_set() else "ready")

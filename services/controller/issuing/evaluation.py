"""Evaluations: their own streams and numbers, outside the ledger, never trained on.

The learner names the step it wants evaluated; this module issues the prompts, collects the graded answers and writes
the mean into the step records. While an evaluation runs, only the newest further request is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import structlog

from services.controller.issuing.dispatcher import Dispatcher
from services.job.spec import JobSpec
from services.records.outcomes import EvaluationRecord
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.steps import Evaluations
from services.trajectories import streams
from services.trajectories.codec import MalformedMessage
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import EVAL_SCORED, EVALUATION_STREAMS, Entry
from services.trajectories.outcomes import DropReason
from services.trajectories.reading import read_group
from services.trajectories.stream_stats import steps_in_flight, stream_stats

log = structlog.get_logger()

MOST_ON_THE_WAY = 1024
"""Rows that are issued and not answered: so many are also issued in one look, within the controller's lease."""


LOOK_FOR_LOST_SECONDS = 5.0


@dataclass
class _Running:
    step: int
    rows: int
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    """When an answer came, or a person had the workers stopped: the deadline counts from here."""
    issued: int = 0
    """Rows below have been issued."""
    looked_for_lost: float = field(default_factory=time.monotonic)
    rewards: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    versions: set[int] = field(default_factory=set)

    @property
    def answered(self) -> int:
        return len(self.rewards.keys() | self.failed)


class Evaluation:
    """The evaluation of one job that runs now, if any."""

    def __init__(self, client: Client, spec: JobSpec, dispatcher: Dispatcher) -> None:
        self._client = client
        self._job_id = job_id = spec.job_id
        self._deadline_seconds = spec.learner.wait_seconds
        self._max_queued_bytes = spec.learner.max_queued_bytes
        self._letters = DeadLetters(client)
        self._dispatcher = dispatcher
        self._running: _Running | None = None
        done = [record.step for record in Evaluations(client).list(job_id)]
        self._newest = max(done, default=None)
        self._went_back: int | None = None

    @property
    def running(self) -> bool:
        return self._running is not None

    def tick(self, wanted_step: int | None, *, went_back: int = 0, clock_stands_still: bool = False) -> None:
        """Start the wanted evaluation, collect answers, finish when all are in or the deadline passed.

        `went_back` grows when training goes back: evaluations of steps after `wanted_step` were of weights that are
        undone then.
        """
        if self._went_back is not None and went_back > self._went_back:
            self._go_back(wanted_step)
        self._went_back = went_back
        is_new = wanted_step is not None and (self._newest is None or wanted_step > self._newest)
        if wanted_step is not None and is_new and self._running is None:
            self._start(wanted_step)
        if self._running is None:
            return
        self._collect(self._running)
        if clock_stands_still:
            self._running.heard = time.monotonic()
        late = time.monotonic() - self._running.heard > self._deadline_seconds
        if self._running.answered >= self._running.rows or late:
            self._finish(self._running)
        else:
            self._issue(self._running)
            self._issue_lost(self._running)

    def _go_back(self, step: int | None) -> None:
        """Forget evaluations of later steps; None: of all steps."""
        if step is None or self._newest is None:
            self._newest = None
        else:
            self._newest = min(self._newest, step)
        if self._running is not None and (step is None or self._running.step > step):
            self._running = None

    def _start(self, step: int) -> None:
        streams.delete(self._client, self._job_id, EVALUATION_STREAMS)
        self._client.delete(keys.evaluation_deaths(self._job_id))
        streams.prepare(self._client, self._job_id)
        self._running = _Running(step, self._dispatcher.validation_rows)
        self._newest = step
        self._issue(self._running)

    def _issue(self, running: _Running) -> None:
        """Issue rows while few enough, and not too many bytes, are on their way."""
        room = MOST_ON_THE_WAY - (running.issued - running.answered)
        if room > 0 and running.issued < running.rows and not self._full():
            first, running.issued = running.issued, min(running.rows, running.issued + room)
            self._dispatcher.evaluate(running.step, range(first, running.issued))

    def _issue_lost(self, running: _Running) -> None:
        """Issue rows again that a restarted Redis has forgotten. An answer that comes twice counts once."""
        now = time.monotonic()
        if now - running.looked_for_lost < LOOK_FOR_LOST_SECONDS:
            return
        running.looked_for_lost = now
        # In the direction in which rows move: one that moves on meanwhile is seen twice, never missed.
        on_the_way = {
            row for name in EVALUATION_STREAMS for row, _ in steps_in_flight(self._client, self._job_id, name)
        }
        known = on_the_way | running.rewards.keys() | running.failed
        lost = [row for row in range(running.issued) if row not in known]
        if lost:
            log.warning("evaluation_rows_reissued", job=self._job_id, step=running.step, rows=len(lost))
            streams.prepare(self._client, self._job_id)
            self._dispatcher.evaluate(running.step, lost)

    def _full(self) -> bool:
        stats = stream_stats(self._client, self._job_id, EVALUATION_STREAMS)
        return sum(stream.bytes for stream in stats.values()) > self._max_queued_bytes

    def _collect(self, running: _Running) -> None:
        entries = streams.read_after(self._client, self._job_id, EVAL_SCORED, "0", count=1024)
        for entry in entries:
            try:
                self._note(running, entry)
            except MalformedMessage as error:
                log.warning("evaluation_malformed", job=self._job_id, row=entry.number, reason=str(error))
                self._letters.put(self._job_id, entry, EVAL_SCORED, DropReason.MALFORMED, str(error))
                if 0 <= entry.number < running.rows:
                    running.failed.add(entry.number)
        if entries:
            running.heard = time.monotonic()
        streams.remove(self._client, self._job_id, EVAL_SCORED, [entry.id for entry in entries])

    def _note(self, running: _Running, entry: Entry) -> None:
        """One answer. Raises MalformedMessage."""
        group = read_group(entry, self._job_id)
        if entry.number >= running.rows:
            raise MalformedMessage(f"row {entry.number} of {running.rows}")
        if group.task.evaluation_step not in (running.step, 0):  # 0: a failure that names only its number
            return
        if group.HasField("failure"):
            running.failed.add(entry.number)
            return
        if not group.trajectories[0].HasField("reward"):
            raise MalformedMessage("a group without reward came as scored")
        running.failed.discard(entry.number)
        running.rewards[entry.number] = group.trajectories[0].reward.value
        running.versions.update(span.version for span in group.trajectories[0].version_spans)

    def _finish(self, running: _Running) -> None:
        self._running = None
        graded = len(running.rewards)
        running.failed -= running.rewards.keys()
        missing = running.rows - running.answered
        mean = sum(running.rewards.values()) / graded if graded else None
        record = EvaluationRecord(
            step=running.step,
            reward_mean=mean,
            graded=graded,
            failed=len(running.failed),
            missing=missing,
            policy_versions=tuple(sorted(running.versions)),
            seconds=time.monotonic() - running.started,
        )
        Evaluations(self._client).put(self._job_id, record)
        Events(self._client).add(
            self._job_id,
            f"Evaluation after step {running.step}: " + (f"reward {mean:.3f}" if mean is not None else "no answer"),
            level="info" if not missing and graded else "warn",
            type="metrics",
            data={"step": running.step, "valid_mean_reward": mean, "graded": graded, "failed": record.failed},
        )

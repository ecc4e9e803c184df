"""Evaluations: their own streams and numbers, outside the ledger, never trained on.

The learner names the step it wants evaluated; here the prompts are issued, the graded answers collected and the mean
written into the step records. While one runs, only the newest of further requests is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import structlog

from services.controller.dispatcher import Dispatcher
from services.spec import JobSpec
from services.store import keys
from services.store.client import Client
from services.store.events import Events
from services.store.steps import Steps
from services.trajectories import streams
from services.trajectories.codec import MalformedMessage, decode_group

log = structlog.get_logger()


@dataclass
class _Running:
    step: int
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    """When an answer came, or a person had the workers stopped: the deadline counts from here."""
    rewards: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    versions: set[int] = field(default_factory=set)


class Evaluation:
    """The evaluation of one job that runs now, if any."""

    def __init__(self, client: Client, spec: JobSpec, dispatcher: Dispatcher) -> None:
        self._client = client
        self._job_id = job_id = spec.job_id
        self._deadline_seconds = spec.learner.wait_seconds
        self._dispatcher = dispatcher
        self._running: _Running | None = None
        done = [record["step"] for record in Steps(client).evaluations(job_id)]
        self._newest = max(done, default=-1)

    @property
    def running(self) -> bool:
        return self._running is not None

    def tick(self, wanted_step: int, *, clock_stands_still: bool = False) -> None:
        """Start the wanted evaluation, collect answers, finish when all are in or the deadline passed."""
        if wanted_step > self._newest and self._running is None:
            self._start(wanted_step)
        if self._running is None:
            return
        self._collect(self._running)
        answered = len(self._running.rewards) + len(self._running.failed)
        if clock_stands_still:
            self._running.heard = time.monotonic()
        late = time.monotonic() - self._running.heard > self._deadline_seconds
        if answered >= self._dispatcher.validation_rows or late:
            self._finish(self._running)

    def _start(self, step: int) -> None:
        names = [keys.stream(self._job_id, name) for name in streams.EVALUATION_STREAMS]
        self._client.delete(*names, keys.evaluation_deaths(self._job_id))
        streams.prepare(self._client, self._job_id)
        self._running = _Running(step)
        self._newest = step
        self._dispatcher.evaluate(step)

    def _collect(self, running: _Running) -> None:
        entries = streams.read_after(self._client, self._job_id, streams.EVAL_SCORED, "0", count=1024)
        for entry in entries:
            try:
                group = decode_group(entry.payload)
            except MalformedMessage as error:
                log.warning("evaluation_malformed", job=self._job_id, row=entry.number, reason=str(error))
                running.failed.add(entry.number)
                continue
            if group.task.evaluation_step not in (running.step, 0):  # 0: a failure that names only its number
                continue
            if group.HasField("failure"):
                running.failed.add(entry.number)
                continue
            running.rewards[entry.number] = group.trajectories[0].reward.value
            running.versions.update(span.version for span in group.trajectories[0].version_spans)
        if entries:
            running.heard = time.monotonic()
        streams.remove(self._client, self._job_id, streams.EVAL_SCORED, [entry.id for entry in entries])

    def _finish(self, running: _Running) -> None:
        self._running = None
        graded = len(running.rewards)
        missing = self._dispatcher.validation_rows - graded - len(running.failed)
        record = {
            "step": running.step,
            "reward_mean": sum(running.rewards.values()) / graded if graded else None,
            "graded": graded,
            "failed": len(running.failed),
            "missing": missing,
            "policy_versions": sorted(running.versions),
            "seconds": time.monotonic() - running.started,
        }
        Steps(self._client).put_evaluation(self._job_id, running.step, record)
        mean = record["reward_mean"]
        Events(self._client).add(
            self._job_id,
            f"Evaluation after step {running.step}: " + (f"reward {mean:.3f}" if mean is not None else "no answer"),
            level="info" if not missing and graded else "warn",
            type="metrics",
            data={"step": running.step, "valid_mean_reward": mean, "graded": graded, "failed": len(running.failed)},
        )

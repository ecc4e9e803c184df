"""One job through its life: the reconcile step for each of its states.

`tick` compares the record with the actors and acts; it never blocks for long and may be called at any moment by any
controller, since all state is in Redis, on disk and in the named actors.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import structlog

from services.controller.capacity import capacity
from services.controller.closing import close_job
from services.controller.dispatcher import Dispatcher
from services.controller.evaluation import Evaluation
from services.controller.fleet import Ended, Fleet, Kind
from services.controller.results import register_results
from services.controller.supervision import MAX_DEATHS, Supervision
from services.controller.validation import InvalidFile, validate_files
from services.controller.waiting import stage_of
from services.layout import Layout
from services.store import keys
from services.store.client import Client
from services.store.events import Events
from services.store.jobs import JobError, JobRecord, Jobs, WaitingFor
from services.store.registry import Registry
from services.store.transitions import IllegalTransition, Status
from services.trajectories import streams
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress

log = structlog.get_logger()

BY = "controller"
PAUSE_GRACE_SECONDS = 60.0
HEARTBEAT_TIMEOUT_SECONDS = 120.0
"""Silence after which a worker that once reported is taken for hung and replaced."""
STARTUP_TIMEOUT_SECONDS = 600.0


class JobReconciler:
    """Everything the controller does for one job."""

    def __init__(self, record: JobRecord, client: Client, layout: Layout, pool: ThreadPoolExecutor) -> None:
        self._id = record.id
        self._spec = record.spec
        self._client = client
        self._layout = layout
        self._pool = pool
        self._jobs = Jobs(client)
        self._events = Events(client)
        self._registry = Registry(client)
        self._progress = Progress(client)
        self._ledger = Ledger(client)
        self._supervision = Supervision()
        self._fleet = Fleet(record.spec)
        self._forget_strangers()
        self._validation: Future[None] | None = None
        self._preparation: Future[Dispatcher] | None = None
        self._evaluation: Evaluation | None = None
        self._pausing_since: float | None = None

    def tick(self, record: JobRecord, may_start: bool) -> None:
        """One look at the job. `may_start`: there is room for another running job."""
        match record.status:
            case Status.VALIDATING_FILES:
                self._validate()
            case Status.QUEUED:
                self._queued(record, may_start)
            case Status.RUNNING:
                self._running(record)
            case Status.PAUSING:
                self._pausing(record)
            case Status.PAUSED:
                self._wait(record, "paused", "a person to resume the job")
            case _:
                self._clean_up(record)

    # --- before it runs

    def _validate(self) -> None:
        if self._validation is None:
            self._validation = self._pool.submit(validate_files, self._spec, self._layout)
        if not self._validation.done():
            return
        error = self._validation.exception()
        if error is None:
            self._move(Status.QUEUED, "Files are valid; the job is queued")
        elif isinstance(error, InvalidFile):
            self._fail(JobError(code="invalid_file", message=str(error), param=error.param))
        else:
            log.error("validation_crashed", job=self._id, exc_info=error)
            self._fail(JobError(code="validation_error", message=f"{type(error).__name__}: {error}", param=None))

    def _queued(self, record: JobRecord, may_start: bool) -> None:
        if not may_start:
            self._wait(record, "queued", "another job to end")
            return
        streams.prepare(self._client, self._id)
        self._progress.set(self._id, phase="", phase_since=time.time())
        self._supervision = Supervision()
        self._move(Status.RUNNING, "The job is running")

    # --- while it runs

    def _running(self, record: JobRecord) -> None:
        self._pausing_since = None
        progress = self._progress.read(self._id)
        for ended in self._fleet.poll():
            if self._ended(ended, progress.next_step):
                return
        if progress.phase == "finished":
            self._finishing(record)
            return
        self._keep("learner", 1)
        self._keep("rollout", record.rollout_workers)
        self._keep("reward", record.reward_workers)
        self._replace_silent()
        dispatcher = self._dispatcher()
        if dispatcher is not None and progress.epoch and progress.asserted_epoch == progress.epoch:
            self._dispatch(dispatcher)
            self._evaluations(dispatcher).tick(progress.evaluation_step)
        ledger = self._ledger.snapshot(self._id)
        stage, what = stage_of(record, progress, self._registry.list(self._id), ledger, self._spec)
        self._wait(record, stage, what)

    def _dispatch(self, dispatcher: Dispatcher) -> None:
        progress, ledger = self._progress.read(self._id), self._ledger.snapshot(self._id)
        if ledger.missing:
            again = dispatcher.reissue(ledger.missing, progress.next_step)
            log.warning("groups_reissued", job=self._id, missing=len(ledger.missing), reissued=again)
        room = capacity(
            self._spec.learner,
            next_step=progress.next_step,
            published_step=progress.published_step,
            trained=ledger.trained,
            in_flight=ledger.in_flight + len(ledger.missing),
        )
        dispatcher.dispatch(room, progress.next_step)

    def _dispatcher(self) -> Dispatcher | None:
        """Reading the dataset takes a while, so it is done beside the loop."""
        if self._preparation is None:
            self._preparation = self._pool.submit(Dispatcher, self._spec, self._client, self._layout)
        if not self._preparation.done():
            return None
        error = self._preparation.exception()
        if error is not None:
            self._preparation = None
            self._fail(JobError(code="invalid_file", message=str(error), param="training_file"))
            return None
        return self._preparation.result()

    def _evaluations(self, dispatcher: Dispatcher) -> Evaluation:
        if self._evaluation is None:
            self._evaluation = Evaluation(self._client, self._id, dispatcher)
        return self._evaluation

    def _finishing(self, record: JobRecord) -> None:
        """The learner is done: let the last evaluation end, then the workers, then the job."""
        dispatcher = self._dispatcher()
        if dispatcher is not None:
            evaluation = self._evaluations(dispatcher)
            evaluation.tick(self._progress.read(self._id).evaluation_step)
            if evaluation.running and record.rollout_workers and record.reward_workers:
                self._keep("rollout", record.rollout_workers)
                self._keep("reward", record.reward_workers)
                self._wait(record, "evaluating", "the last evaluation to end")
                return
        self._end_actors()
        close_job(self._client, self._layout, self._id)
        results = register_results(self._client, self._layout, record)
        self._move(
            Status.SUCCEEDED,
            f"The job succeeded; the model is registered as {results.model}",
            fine_tuned_model=results.model,
            result_files=results.files,
            trained_tokens=self._progress.read(self._id).trained_tokens,
            finished_at=int(time.time()),
            cleaned=True,
        )

    # --- actors

    def _keep(self, kind: Kind, wanted: int) -> None:
        """Start what is missing, drain what is too much; newest workers go first."""
        active = [member for member in self._fleet.of(kind) if not member.draining]
        for _ in range(wanted - len(active)):
            number = self._client.hincrby(keys.workers_started(self._id), kind, 1)
            self._fleet.start(kind, f"{kind}-{number}")
        for member in active[wanted:]:
            self._fleet.drain(member)
        for member in self._fleet.of(kind):
            overdue = member.draining and time.monotonic() - member.drained_at > self._drain_limit()
            if overdue:
                log.warning("drain_overdue", job=self._id, worker=member.id)
                self._fleet.kill(member)
                self._forget(member.id)

    def _drain_limit(self) -> float:
        return self._spec.rollout.drain_seconds + 10.0

    def _replace_silent(self) -> None:
        """Workers whose heartbeat stopped although their process lives, or that never began to report."""
        heard = {worker.id: worker.heartbeat for worker in self._registry.list(self._id)}
        for kind in ("learner", "rollout", "reward"):
            for member in self._fleet.of(kind):
                silent = time.time() - heard[member.id] if member.id in heard else 0.0
                age = time.monotonic() - member.started
                if silent > HEARTBEAT_TIMEOUT_SECONDS or (member.id not in heard and age > STARTUP_TIMEOUT_SECONDS):
                    self._events.add(self._id, f"{member.id} is silent and is replaced", level="warn")
                    self._fleet.kill(member)
                    self._forget(member.id)

    def _ended(self, ended: Ended, next_step: int) -> bool:
        """React to an actor that is gone. True when the job failed with it."""
        member = ended.member
        self._forget(member.id)
        if isinstance(ended.outcome, dict) and ended.outcome.get("outcome") == "failed":
            self._fail(JobError(code=ended.outcome["code"], message=ended.outcome["message"], param=None))
            return True
        if ended.outcome is not None or member.draining:
            log.info("actor_ended", job=self._id, worker=member.id, outcome=str(ended.outcome))
            return False
        self._events.add(self._id, f"{member.id} died and is replaced: {ended.error}", level="warn")
        progress = next_step if member.kind == "learner" else self._handed_over(member.kind)
        if self._supervision.death(member.kind, progress):
            message = f"{MAX_DEATHS} {member.kind} actors died without progress; the last: {ended.error}"
            self._fail(JobError(code=f"{member.kind}_crash_loop", message=message, param=None))
            return True
        return False

    def _handed_over(self, kind: str) -> int:
        counts: Any = self._client.hgetall(keys.handed_over(self._id))
        return sum(int(count) for worker, count in counts.items() if worker.decode().startswith(f"{kind}-"))

    def _forget(self, worker_id: str) -> None:
        """A worker is gone: its leases end now, its entry in the registry too."""
        streams.release_consumer(self._client, self._id, worker_id)
        self._registry.remove(self._id, worker_id)

    def _forget_strangers(self) -> None:
        """Workers that another controller knew and that are gone: nobody else would end their leases."""
        for worker in self._registry.list(self._id):
            if worker.id not in self._fleet:
                self._events.add(self._id, f"{worker.id} died while no controller ran and is replaced", level="warn")
                self._forget(worker.id)

    def _end_actors(self) -> None:
        members = [member for kind in ("learner", "rollout", "reward") for member in self._fleet.of(kind)]
        self._fleet.kill_all()
        for member in members:
            self._forget(member.id)
        self._registry.clear(self._id)

    # --- pause and end

    def _pausing(self, record: JobRecord) -> None:
        if self._pausing_since is None:
            self._pausing_since = time.monotonic()
        for ended in self._fleet.poll():
            self._forget(ended.member.id)
        for kind in ("learner", "rollout", "reward"):
            for member in self._fleet.of(kind):
                self._fleet.drain(member)
        waited = time.monotonic() - self._pausing_since
        if len(self._fleet) and waited < self._spec.rollout.drain_seconds + PAUSE_GRACE_SECONDS:
            self._wait(record, "pausing", "the step to end and workers to hand back their groups")
            return
        self._end_actors()
        self._evaluation = None
        self._move(Status.PAUSED, "The job is paused; its groups wait in their streams")

    def _clean_up(self, record: JobRecord) -> None:
        """A job that failed or was cancelled: no actor stays; a cancelled one is closed, a failed one can resume."""
        if record.cleaned:
            return
        self._end_actors()
        if record.status is Status.CANCELLED:
            close_job(self._client, self._layout, self._id)
        self._evaluation = None
        self._jobs.update(self._id, cleaned=True)

    def _move(self, to: Status, message: str, **fields: object) -> None:
        try:
            self._jobs.transition(self._id, to, by=BY, message=message, waiting_for=None, stage=to.value, **fields)
        except IllegalTransition as error:  # a person was faster, for example with a cancel
            log.info("transition_refused", job=self._id, to=to.value, current=str(error.current))

    def _fail(self, error: JobError) -> None:
        message = f"The job failed: {error.message}"
        self._move(Status.FAILED, message, error=error, finished_at=int(time.time()), cleaned=False)

    def _wait(self, record: JobRecord, stage: str, what: str) -> None:
        """Say what is waited for; `since` stays while stage and words' first part stay."""
        current = record.waiting_for
        head = what.split(":")[0]
        if current is not None and record.stage == stage and current.what == what:
            return
        same = current is not None and record.stage == stage and current.what.split(":")[0] == head
        since = current.since if same and current is not None else time.time()
        self._jobs.update(self._id, stage=stage, waiting_for=WaitingFor(what=what, since=since))

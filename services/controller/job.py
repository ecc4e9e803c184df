"""One job through its life: the reconcile step for each of its states.

`tick` compares the record with the actors and acts; it never blocks for long and may be called at any moment by any
controller, since all state is in Redis, on disk and in the named actors.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import structlog

from services.controller.closing import close_job
from services.controller.issuing.capacity import capacity, paced
from services.controller.issuing.dispatcher import Dispatcher
from services.controller.issuing.evaluation import Evaluation
from services.controller.issuing.queued import queued_groups
from services.controller.results import register_results
from services.controller.validation import InvalidFile, validate_files
from services.controller.waiting import stage_of
from services.controller.workers.crew import Crew
from services.disk.layout import Layout
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import JobError, JobRecord, Jobs, WaitingFor
from services.store.job.transitions import IllegalTransition, Status
from services.trajectories import streams
from services.trajectories.ledger import Ledger, LedgerSnapshot
from services.trajectories.progress import Progress, ProgressRecord
from services.trajectories.stream_stats import forget_index

log = structlog.get_logger()

BY = "controller"
PAUSE_GRACE_SECONDS = 60.0
MOST_DISPATCHED = 256
"""Groups issued in one look: the controller's lease must not run out meanwhile."""


class JobReconciler:
    """Everything the controller does for one job."""

    def __init__(self, record: JobRecord, client: Client, layout: Layout, pool: ThreadPoolExecutor) -> None:
        self._id = record.id
        self._spec = record.spec
        self._client = client
        self._layout = layout
        self._pool = pool
        self._jobs = Jobs(client)
        self._progress = Progress(client)
        self._ledger = Ledger(client)
        self._crew = Crew(record.spec, client)
        self._validation: Future[None] | None = None
        self._preparation: Future[Dispatcher] | None = None
        self._evaluation: Evaluation | None = None
        self._pausing_since: float | None = None
        self._stall_told = 0.0

    def tick(self, record: JobRecord, may_start: bool) -> None:
        """One look at the job. `may_start`: there is room for another running job."""
        match record.status:
            case Status.VALIDATING_FILES:
                if self._validated():
                    self._move(Status.QUEUED, "Files are valid; the job is queued")
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

    def _validated(self) -> bool:
        """Whether the files were found valid; fails the job if they were not."""
        if self._validation is None:
            self._validation = self._pool.submit(validate_files, self._spec, self._layout)
        if not self._validation.done():
            return False
        error = self._validation.exception()
        if error is None:
            return True
        if isinstance(error, InvalidFile):
            self._fail(JobError(code=error.code, message=str(error), param=error.param))
        else:
            log.error("validation_crashed", job=self._id, exc_info=error)
            self._fail(JobError(code="validation_error", message=f"{type(error).__name__}: {error}"))
        self._validation = None
        return False

    def _queued(self, record: JobRecord, may_start: bool) -> None:
        if not may_start:
            self._wait(record, "queued", "another job to end")
            return
        # A job that never trained may have been resumed after its files were refused.
        if not self._progress.read(self._id).epoch and not self._validated():
            return
        streams.prepare(self._client, self._id)
        self._progress.set(self._id, phase="")
        self._move(Status.RUNNING, "The job is running")

    # --- while it runs

    def _running(self, record: JobRecord) -> None:
        self._pausing_since = None
        lost = self._crew.mourn() or self._crew.replace_silent()
        if lost is not None:
            self._fail(lost)
            return
        progress = self._progress.read(self._id)
        if progress.phase == "finished":
            self._finishing(record, progress)
            return
        self._crew.keep("learner", 1)
        self._crew.keep("rollout", record.rollout_workers)
        self._crew.keep("reward", record.reward_workers)
        ledger = self._ledger.snapshot(self._id)
        full = False
        if self._progress.asserted(progress) and (dispatcher := self._dispatcher()):
            full = self._dispatch(dispatcher, progress, ledger)
            self._evaluate(dispatcher, record, progress)
        stage, what = stage_of(record, progress, self._crew.workers(), ledger, full=full)
        self._wait(record, stage, what)
        self._notice_stall(record, stage, what)

    def _dispatch(self, dispatcher: Dispatcher, progress: ProgressRecord, ledger: LedgerSnapshot) -> bool:
        """Issue what there is room for; whether it is the bytes queued that leave none."""
        if ledger.missing:
            again = dispatcher.reissue(ledger.missing[:MOST_DISPATCHED], progress.published_step)
            log.warning("groups_reissued", job=self._id, missing=len(ledger.missing), reissued=again)
        room = partial(
            capacity,
            paced(self._spec.learner, progress.staleness_window),
            next_step=progress.next_step,
            published_step=progress.published_step,
            trained=ledger.trained,
            in_flight=ledger.in_flight + len(ledger.missing),
        )
        issued_now = room(queued=queued_groups(self._client, self._spec))
        dispatcher.dispatch(min(issued_now, MOST_DISPATCHED), progress.published_step)
        return issued_now == 0 and room() > 0

    def _dispatcher(self) -> Dispatcher | None:
        """None while it is being made: reading the dataset takes a while, so it is done beside the loop."""
        if self._preparation is None:
            forget_index(self._client, self._id)  # what an earlier controller left need not be trusted
            self._preparation = self._pool.submit(Dispatcher, self._spec, self._client, self._layout)
        return self._preparation.result() if self._preparation.done() else None

    def _evaluate(self, dispatcher: Dispatcher, record: JobRecord, progress: ProgressRecord) -> bool:
        """Whether an evaluation runs."""
        if self._evaluation is None:
            self._evaluation = Evaluation(self._client, self._spec, dispatcher)
        manned = record.rollout_workers > 0 and record.reward_workers > 0
        self._evaluation.tick(progress.evaluation_step, cut=progress.evaluation_cut, clock_stands_still=not manned)
        return self._evaluation.running

    def _finishing(self, record: JobRecord, progress: ProgressRecord) -> None:
        """The learner is done: let the last evaluation end, then the workers, then the job."""
        if self._spec.evaluation is not None:
            dispatcher = self._dispatcher()
            if dispatcher is None:
                return
            if self._evaluate(dispatcher, record, progress):
                self._crew.keep("rollout", record.rollout_workers)
                self._crew.keep("reward", record.reward_workers)
                self._wait(record, "evaluating", "the last evaluation to end")
                self._notice_stall(record, "evaluating", "the last evaluation to end")
                return
        self._crew.end()
        close_job(self._client, self._layout, self._id)
        results = register_results(self._client, self._layout, record)
        self._move(
            Status.SUCCEEDED,
            f"The job succeeded; the model is registered as {results.model}",
            fine_tuned_model=results.model,
            result_files=results.files,
            trained_tokens=progress.trained_tokens,
            cleaned_as=Status.SUCCEEDED,
        )

    # --- pause and end

    def _pausing(self, record: JobRecord) -> None:
        if self._pausing_since is None:
            self._pausing_since = time.monotonic()
        lost = self._crew.mourn()
        if lost is not None:
            self._fail(lost)
            return
        self._crew.drain_all()
        waited = time.monotonic() - self._pausing_since
        if len(self._crew) and waited < self._spec.rollout.drain_seconds + PAUSE_GRACE_SECONDS:
            self._wait(record, "pausing", "the step to end and workers to hand back their groups")
            return
        self._crew.end()
        self._evaluation = None
        self._move(Status.PAUSED, "The job is paused; its groups wait in their streams")

    def _clean_up(self, record: JobRecord) -> None:
        """A job that has ended: no actor stays; a cancelled one is closed, a failed one can resume."""
        self._crew.end()
        if record.status is Status.CANCELLED:
            close_job(self._client, self._layout, self._id)
        self._evaluation = None
        self._jobs.update(self._id, cleaned_as=record.status)

    def _move(self, to: Status, message: str, **fields: object) -> None:
        try:
            self._jobs.transition(self._id, to, by=BY, message=message, **fields)
        except IllegalTransition as error:  # a person was faster, for example with a cancel
            log.info("transition_refused", job=self._id, to=to.value, current=str(error.current))

    def _fail(self, error: JobError) -> None:
        self._move(Status.FAILED, f"The job failed: {error.message}", error=error)

    def _wait(self, record: JobRecord, stage: str, what: str) -> None:
        """Say what is waited for, unless the job has moved on; `since` stays while the words before the colon stay."""
        current = record.waiting_for
        if current is not None and record.stage == stage and current.what == what:
            return
        head = what.split(":")[0]
        same = current is not None and record.stage == stage and current.what.split(":")[0] == head
        since = current.since if same and current is not None else time.time()
        waiting_for = WaitingFor(what=what, since=since)
        self._jobs.update(self._id, expected=record.status, stage=stage, waiting_for=waiting_for)

    def _notice_stall(self, record: JobRecord, stage: str, what: str) -> None:
        """An event, once, for a wait on a machine that takes longer than `stall_seconds`."""
        waiting = record.waiting_for
        manned = record.rollout_workers > 0 and record.reward_workers > 0  # else it waits for a person
        if waiting is None or waiting.since == self._stall_told or not manned:
            return
        waited = time.time() - waiting.since
        if waited > self._spec.learner.stall_seconds:
            self._stall_told = waiting.since
            text = f"Stalled in {stage}: waiting for {what} since {waited:.0f} s"
            log.warning("job_stalled", job=self._id, stage=stage, what=what, seconds=round(waited))
            Events(self._client).add(self._id, text, level="warn", data={"stage": stage, "seconds": round(waited)})

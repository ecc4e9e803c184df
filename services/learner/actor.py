"""The learner as a Ray actor: one thread trains, another reports, `stop` and `run` may be called by any controller."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, InvalidStateError

import ray
import structlog

from services.job.spec import JobSpec
from services.journal.errors import SequenceTaken
from services.learner.errors import FATAL, LearnerStalled
from services.learner.opening import open_learner
from services.learner.pulse import Pulse
from services.observability import exporter, logs
from services.records.worker import LearnerOutcome, WorkerDetail, WorkerState
from services.settings.processes import FolderSettings
from services.store.client import StoreError, connect
from services.store.job.presence import BEAT_SECONDS, Presence
from services.trajectories.outcomes import Fenced

log = structlog.get_logger()


class LearnerProcess:
    """`run` answers with the outcome as plain values: how the training ended, a code and a message."""

    def __init__(self, spec_json: str, worker_id: str) -> None:
        logs.configure(worker_id)
        self._spec = JobSpec.model_validate_json(spec_json)
        self._settings = FolderSettings.read()
        self._client = connect(self._settings.redis_url)
        self._pulse = Pulse()
        self._patience_seconds = self._spec.learner.stall_seconds + self._spec.learner.wait_seconds
        self._presence = Presence(self._client, self._spec.job_id, worker_id, "learner", exporter.serve_address())
        self._outcome: Future[LearnerOutcome] = Future()
        threading.Thread(target=self._train, daemon=True, name="train").start()
        threading.Thread(target=self._heartbeat, daemon=True, name="heartbeat").start()

    async def run(self) -> LearnerOutcome:
        """Wait for the end of training. May be called again by a controller that adopts this actor."""
        return await asyncio.wrap_future(self._outcome)

    async def drain(self) -> None:
        """End after the current step, with a checkpoint."""
        self._pulse.stop()

    def _train(self) -> None:
        try:
            learner = open_learner(self._spec, self._client, self._settings.layout, self._pulse)
            self._end({"outcome": learner.run(), "code": "", "message": ""})
        except (Fenced, SequenceTaken) as error:
            self._end({"outcome": "fenced", "code": "fenced", "message": str(error)})
        except FATAL as error:
            self._end({"outcome": "failed", "code": error.code, "message": str(error)})
        except BaseException as error:  # the thread's boundary: whatever ended it is the outcome of `run`
            log.exception("learner_crashed")
            self._end(error)

    def _end(self, outcome: LearnerOutcome | BaseException) -> None:
        """The first end counts. A thread that seemed to hang may still end later."""
        try:
            if isinstance(outcome, BaseException):
                self._outcome.set_exception(outcome)
            else:
                self._outcome.set_result(outcome)
        except InvalidStateError:
            log.warning("learner_had_ended", outcome=str(outcome))

    def _heartbeat(self) -> None:
        pulse = self._pulse
        while not self._outcome.done():
            if (still := time.monotonic() - pulse.moved_at) > self._patience_seconds:
                # The thread that hangs can't be ended, the process can: whoever waits for `run` sees to it.
                self._end(LearnerStalled(f"{pulse.phase} has not moved for {still:.0f} s"))
                return
            state: WorkerState = "starting" if pulse.phase in ("starting", "replaying") else "ready"
            try:
                self._presence.say(state, pulse.version, WorkerDetail(phase=pulse.phase))
            except StoreError as error:  # the training thread decides whether that is the end
                log.warning("heartbeat_not_written", reason=str(error))
            time.sleep(BEAT_SECONDS)


LearnerActor = ray.remote(max_restarts=0, max_task_retries=0)(LearnerProcess)

"""The learner's order of things.

    claim an epoch → restore the newest checkpoint → replay the records behind it → assert to Redis → publish anew →
    { wait for a batch → commit its record → finish its numbers → train → publish → report, checkpoint } → export

Invariants: nothing is trained before its record is linked; nothing is finished in Redis before that either; between
replayed records nothing is published; finishing, asserting and naming a version carry the epoch to Redis; before each
commit, finish and publish the disk is asked whether a newer learner was here. Checkpoints are written beside the
training.
"""

from __future__ import annotations

import time

import structlog

from services.disk.files import write_atomic
from services.disk.layout import Layout
from services.job.guard import GuardAction
from services.job.spec import JobSpec
from services.journal.record import Header
from services.learner.backend import Backend
from services.learner.batches.assembler import Batch
from services.learner.batches.batch_wait import Drops, Ready
from services.learner.errors import OutOfMemory, typed_disk_errors
from services.learner.parts import Parts
from services.learner.pulse import Pulse
from services.learner.reports.step_record import step_record
from services.learner.returning import Returning
from services.records.step import StepWaits
from services.store.client import Client
from services.store.job.samples import write_gate

log = structlog.get_logger()

POLL_SECONDS = 0.05
REMIND_SECONDS = 1.0
CLOSING_SECONDS = 30.0
"""How long a learner that ends with an error lets a checkpoint end that is being written."""


class Learner:
    """Trains one job from wherever its journal stands to its last step."""

    def __init__(
        self, spec: JobSpec, client: Client, layout: Layout, backend: Backend, pulse: Pulse | None = None
    ) -> None:
        self.pulse = pulse or Pulse()
        self.parts = Parts.make(spec, client, layout, backend, self.pulse)
        self.returning = Returning(self.parts)
        self._spec = spec
        self._checkpoint_seconds = 0.0

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self.parts.training.step

    def run(self) -> str:
        """Train to the end ("finished") or until stopped ("drained").

        Raises what is in `FATAL`, Fenced, SequenceTaken, AttemptFailed.
        """
        parts = self.parts
        try:
            with typed_disk_errors(str(parts.layout.root)):
                self._begin()
                while self.step < self._spec.learner.steps and not self.pulse.stopping:
                    parts.writer.poll()
                    self.one_step()
                return self._end()
        except MemoryError as error:
            raise OutOfMemory(f"{self._spec.model} does not fit into memory: {error}") from error
        finally:
            parts.writer.close(CLOSING_SECONDS)
            parts.reporter.close()

    def _begin(self) -> None:
        """Go to the place where the learner before stopped, and publish one version."""
        parts = self.parts
        parts.enter("starting")
        write_atomic(parts.folder.spec, self._spec.model_dump_json(indent=1).encode())
        parts.journal.claim_epoch()
        write_gate(parts.folder, parts.backend.gate_curve(self._spec))
        cut_off = self.returning.restore()
        if cut_off is not None:
            self.obey(cut_off.action)
        parts.publish()
        if self.step == 0 and parts.guarding.may_roll_back:
            self._checkpoint()
        if self.step == 0 and self._spec.evaluation is not None:
            parts.progress.set(self._spec.job_id, evaluation_step=0)

    def _end(self) -> str:
        parts = self.parts
        self._checkpoint()
        parts.writer.wait()
        if self.step < self._spec.learner.steps:
            return "drained"
        parts.enter("exporting")
        parts.journal.check_epoch()
        parts.backend.export(parts.folder.export)
        parts.enter("finished")
        return "finished"

    def one_step(self) -> None:
        """Wait for a batch and train it; nothing when stopping."""
        parts = self.parts
        parts.enter("waiting_for_batch")
        waiting_since = time.time()
        ready = self._next_batch()
        if ready is None:
            return
        started = time.time()
        header = self._commit(ready.batch)
        parts.enter("training")
        groups = [scored.group for scored in ready.batch.groups]
        figures = parts.evidence.train(header, groups)
        parts.enter("publishing")
        trained = time.time()
        parts.publish()
        now = time.time()
        drift = parts.probe.complete(figures.drift, groups, header.step)
        figures = figures.model_copy(update={"drift": drift})
        decision = parts.guarding.look(header.step, figures)
        waits = StepWaits(
            batch=started - waiting_since - ready.staleness_seconds,
            staleness=ready.staleness_seconds,
            publish=now - trained,
            checkpoint=self._checkpoint_seconds,
        )
        self._checkpoint_seconds = 0.0
        epoch, version = parts.journal.epoch, parts.publisher.version
        said = step_record(
            header, figures, decision.view(), epoch=epoch, policy_version=version, seconds=now - started, waits=waits
        )
        parts.journal.check_epoch()  # one that was replaced while it hung says nothing of steps any more
        parts.reporter.step(said, tokens=parts.backend.state.trained_tokens)
        parts.samples.add(header.step, groups[0], parts.backend.token_weights)
        if self.step % self._spec.learner.checkpoint_every == 0 and self.step < self._spec.learner.steps:
            self._checkpoint()  # that of the last step is written at the end
        self.obey(decision.action)

    def obey(self, action: GuardAction | None) -> None:
        """Do what the guard decided, if it is more than a setting of the next record."""
        parts = self.parts
        if action == "sync":
            parts.publish()
        elif action == "pause":
            parts.guarding.pause()
            self.pulse.stop()
        elif action == "rollback":
            parts.writer.wait()
            to_step = self.returning.refuge()
            if to_step is None:
                parts.guarding.stay()
            else:
                self.returning.roll_back(to_step, parts.guarding.roll_back(to_step))

    def _next_batch(self) -> Ready | None:
        """The batch of the next step; None when stopping. Drops met on the way are committed at once."""
        reminded = 0.0
        while not self.pulse.stopping:
            found = self.parts.wait.look(self.step)
            if isinstance(found, Ready):
                return found
            if isinstance(found, Drops):
                self._commit(found.batch)
            if time.monotonic() - reminded >= REMIND_SECONDS:
                reminded = time.monotonic()
                self._remind()  # before the deadline is asked: one that was replaced has missed nothing of its own
            self.parts.wait.check_deadline()
            self.pulse.wait(POLL_SECONDS)
        return None

    def _commit(self, batch: Batch) -> Header:
        parts = self.parts
        return parts.books.commit(batch, self.step, parts.publisher.version, parts.guarding.settings())

    def _remind(self) -> None:
        """About every second of a wait: end if a newer learner is there, and assert to Redis again what it has
        forgotten."""
        parts = self.parts
        self.pulse.beat()
        parts.journal.check_epoch()
        parts.writer.poll()
        known = parts.progress.read(self._spec.job_id)
        if parts.books.forgotten_by(known, self.step):
            log.warning("redis_forgot", next_step=known.next_step, step=self.step)
            parts.books.assert_training()
            parts.enter(self.pulse.phase)
        if known.policy_version < parts.publisher.version:
            parts.publisher.name()

    def _checkpoint(self) -> None:
        parts = self.parts
        parts.enter("checkpointing")
        started = time.time()
        parts.writer.submit(parts.training.snapshot(), parts.guarding.healthy)
        self._checkpoint_seconds = time.time() - started

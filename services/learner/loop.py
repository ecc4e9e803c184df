"""The learner's order of things.

    claim an epoch → restore the newest checkpoint → replay the records behind it → assert to Redis → publish anew →
    { wait for a batch → commit its record → finish its numbers → train → publish → report, checkpoint } → export

Invariants: nothing is trained before its record is linked; nothing is finished in Redis before that either; between
replayed records nothing is published; every write to Redis carries the epoch; before each commit, finish and publish
the disk is asked whether a newer learner was here. Checkpoints are written beside the training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from services.disk.files import write_atomic
from services.disk.folder_version import FolderRefused, refuse_newer
from services.disk.layout import Layout
from services.drift.guard import Decision
from services.job.guard import GuardAction
from services.job.spec import JobSpec
from services.journal.journal import Journal
from services.journal.lineage import surviving, undone_versions
from services.journal.record import Header, Record
from services.learner.backend import Backend
from services.learner.batches.assembler import Assembler, Batch
from services.learner.batches.batch_wait import BatchWait, Drops, Ready
from services.learner.errors import NoSuchCheckpoint, OutOfMemory, WrongFolder, typed_disk_errors
from services.learner.guarding import Guarding
from services.learner.mismatch import MismatchProbe
from services.learner.publishing import Publisher
from services.learner.pulse import Pulse
from services.learner.recovery import checkpoint, result
from services.learner.recovery.attempts import Attempts
from services.learner.recovery.books import Books
from services.learner.recovery.checkpoint_writer import CheckpointWriter
from services.learner.recovery.restore import counts_in, cut_draft, plan, skip
from services.learner.recovery.retention import Retention
from services.learner.reports.reporting import Reporter
from services.learner.reports.samples import Samples
from services.learner.training import Training
from services.records.step import StepFigures, StepRecord, StepWaits
from services.store.client import Client
from services.store.job.looks import write_gate
from services.trajectories.codec import decode_group
from services.trajectories.progress import Progress
from sspo_proto.trajectory_pb2 import Group

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
        self._spec = spec
        self._layout = layout
        self._folder = layout.job(spec.job_id)
        self.pulse = pulse or Pulse()
        self._progress = Progress(client)
        self._reporter = Reporter(spec, client, layout)
        self._journal = Journal(self._folder.journal)
        self._books = Books(spec, client, self._journal)
        self._attempts = Attempts(self._journal)
        self._guarding = Guarding(spec, client)
        self._writer = CheckpointWriter(
            Retention(self._folder, self._journal, spec.learner).save,
            self._reporter.checkpoint,
            spec.learner.wait_seconds,
        )
        self._backend = backend
        self._training = Training(spec, backend)
        self._publisher = Publisher(spec.job_id, self._progress, self._folder.weights, self._journal, backend)
        self._probe = MismatchProbe(spec.learner, backend)
        self._samples = Samples(self._folder.samples, layout.model(spec.model))
        self._assembler = Assembler(
            spec.job_id,
            spec.learner.batch_size,
            spec.learner.max_staleness,
            drop_uninformative=spec.learner.drop_uninformative_groups,
            vocab_size=backend.vocab_size,
        )
        self._wait = BatchWait(spec, client, self._assembler)
        self._checkpoint_seconds = 0.0

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self._training.step

    def run(self) -> str:
        """Train to the end ("finished") or until stopped ("drained").

        Raises what is in `FATAL`, Fenced, SequenceTaken, AttemptFailed.
        """
        try:
            with typed_disk_errors(str(self._layout.root)):
                return self._run()
        except MemoryError as error:
            raise OutOfMemory(f"{self._spec.model} does not fit into memory: {error}") from error
        finally:
            self._writer.close(CLOSING_SECONDS)
            self._reporter.close()

    def rollback(self, to_step: int, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Go back to the checkpoint with `to_step` steps; only between steps. Raises NoSuchCheckpoint, Fenced.

        `settings` is what the rollback's record says beside.
        """
        self._writer.wait()
        path = checkpoint.folder_of(self._folder.checkpoints, to_step)
        found = checkpoint.verify(path) if path.exists() else None
        if found is None or to_step >= self.step or not counts_in(self._books.outlines)(found):
            kept = [checkpoint.step_of(path) for path in checkpoint.stored(self._folder.checkpoints)]
            raise NoSuchCheckpoint(f"step {to_step} of {self.step}: checkpoints are kept of steps {kept}")
        header = self._books.cut(
            cut_draft(self._books.outlines, to_step=to_step, settings=settings, policy_version=self._publisher.version)
        )
        self._training.load(found)
        checkpoint.remove_undone(self._folder.checkpoints, counts_in(self._books.outlines))
        self._assembler.undo(undone_versions(self._books.outlines))
        self._books.assert_training()
        self._probe.went_back()
        self._publish()
        self._reporter.cut(header)

    def _run(self) -> str:
        self._enter("starting")
        try:
            refuse_newer(self._layout)
        except FolderRefused as error:
            raise WrongFolder(str(error)) from error
        write_atomic(self._folder.spec, self._spec.model_dump_json(indent=1).encode())
        self._journal.claim_epoch()
        write_gate(self._folder, self._backend.gate_curve(self._spec))
        self._restore()
        self._publish()
        if self.step == 0 and self._guarding.may_roll_back:
            self._checkpoint()
        if self.step == 0 and self._spec.evaluation is not None:
            self._progress.set(self._spec.job_id, evaluation_step=0)
        while self.step < self._spec.learner.steps and not self.pulse.stopping:
            self._writer.poll()
            self._one_step()
        self._checkpoint()
        self._writer.wait()
        if self.step < self._spec.learner.steps:
            return "drained"
        self._enter("exporting")
        self._journal.check_epoch()
        self._backend.export(self._folder.export)
        self._enter("finished")
        return "finished"

    # --- where the one before stopped

    def _restore(self) -> None:
        self._books.read()
        self._enter("replaying")
        self._publisher.go_on_from(self._books.newest_version)
        checkpoint.load_newest(self._folder.checkpoints, counts_in(self._books.outlines), self._training.load)
        ahead = plan(self._books, self.step, self._attempts)
        for sequence in ahead.replay:
            self._replay(self._journal.read(sequence))
        skipped = skip(self._books, ahead.killer, self._attempts) if ahead.killer else None
        self._books.assert_training()
        if skipped is not None:
            self._reporter.cut(skipped)
        self._assembler.finish(self._books.finished())
        self._assembler.undo(undone_versions(self._books.outlines))
        self._recall()
        self._guarding.announce()
        log.info("learner_restored", step=self.step, epoch=self._journal.epoch, records=len(self._books.outlines))

    def _replay(self, record: Record) -> None:
        header = record.header
        started = time.time()
        path = self._journal.result_path(header.sequence)
        before = result.read(path)
        figures = self._train(header, [decode_group(payload) for payload in record.payloads])
        decision = self._guarding.take_up(header.settings, header.step, figures)
        after = result.read(path)
        if before is not None and after is not None and (differing := result.differing(before, after)):
            log.warning("replay_differs", step=header.step, fields=differing)
            self._reporter.replay_differs(header, differing)
        self._report(header, figures, decision, replayed=True, seconds=time.time() - started)

    def _recall(self) -> None:
        """Have the guard know what the one before knew, from the newest record that says it, and from its step if that
        counts; ask for the pause that it died before asking for."""
        outlines = self._books.outlines
        newest = next((one for one in reversed(outlines) if one.kind in ("step", "rollback")), None)
        if newest is None:
            self._guarding.begin()
            return
        settings = self._journal.settings(newest.sequence)
        steps = surviving(outlines)
        counts = newest.kind == "step" and bool(steps) and steps[-1].sequence == newest.sequence
        said = self._reporter.said_of(newest.step) if counts else None
        if said is None:
            self._guarding.recall(settings)
            return
        decision = self._guarding.take_up(settings, newest.step, said)
        if decision.action == "pause" and self._guarding.runs_since_before(newest.written_at):
            self._guarding.tell(newest.step, decision)
            self._obey("pause")

    # --- one step

    def _one_step(self) -> None:
        self._enter("waiting_for_batch")
        waiting_since = time.time()
        ready = self._next_batch()
        if ready is None:
            return
        started = time.time()
        header = self._settle(ready.batch)
        self._enter("training")
        groups = [scored.group for scored in ready.batch.groups]
        figures = self._train(header, groups)
        self._enter("publishing")
        trained = time.time()
        self._publish()
        now, waited = time.time(), started - waiting_since
        drift = self._probe.complete(figures.drift, groups, header.step)
        figures = figures.model_copy(update={"drift": drift})
        decision = self._guarding.look(header.step, figures)
        waits = StepWaits(
            batch=waited - ready.staleness_seconds,
            staleness=ready.staleness_seconds,
            publish=now - trained,
            checkpoint=self._checkpoint_seconds,
        )
        self._journal.check_epoch()  # one that was replaced while it hung says nothing of steps any more
        self._report(header, figures, decision, seconds=now - started, wait_seconds=waited, waits=waits)
        self._checkpoint_seconds = 0.0
        self._samples.add(header.step, groups[0], self._backend.token_weights)
        if self.step % self._spec.learner.checkpoint_every == 0:
            self._checkpoint()
        self._obey(decision.action)

    def _next_batch(self) -> Ready | None:
        """The batch of the next step; None when stopping. Drops met on the way are settled at once."""
        reminded = 0.0
        while not self.pulse.stopping:
            found = self._wait.look(self.step)
            if isinstance(found, Ready):
                return found
            if isinstance(found, Drops):
                self._settle(found.batch)
            if time.monotonic() - reminded >= REMIND_SECONDS:
                reminded = time.monotonic()
                self._remind()
            self.pulse.wait(POLL_SECONDS)
        return None

    def _remind(self) -> None:
        """About every second of a wait: end if replaced, assert again what Redis has forgotten while we live."""
        self.pulse.beat()
        self._journal.check_epoch()
        self._writer.poll()
        known = self._progress.read(self._spec.job_id)
        if self._books.forgotten_by(known, self.step):
            log.warning("redis_forgot", next_step=known.next_step, step=self.step)
            self._books.assert_training()
            self._enter(self.pulse.phase)
        if known.policy_version < self._publisher.version:
            self._publisher.name()

    def _settle(self, batch: Batch) -> Header:
        return self._books.settle(batch, self.step, self._publisher.version, self._guarding.settings())

    def _train(self, header: Header, groups: Sequence[Group]) -> StepFigures:
        """Train a record, with a mark for as long as it lasts, and leave evidence of what it gave."""
        with self._attempts.attempt(header.sequence):
            figures = self._training.train(header, groups)
        saved = self.step % self._spec.learner.checkpoint_every == 0
        outcome = result.result_of(header.step, figures, self._backend, digest=saved)
        result.write(self._journal.result_path(header.sequence), outcome)
        self.pulse.beat()
        return figures

    def _report(
        self,
        header: Header,
        figures: StepFigures,
        decision: Decision,
        *,
        seconds: float,
        wait_seconds: float | None = None,
        waits: StepWaits | None = None,
        replayed: bool = False,
    ) -> None:
        record = StepRecord(
            **{name: getattr(figures, name) for name in figures.model_fields_set},
            step=header.step,
            time=header.written_at,
            replayed=replayed,
            groups=len(header.trained),
            wait_seconds=wait_seconds,
            seconds=seconds,
            waits=waits or StepWaits(),
            epoch=self._journal.epoch,
            policy_version=header.policy_version if replayed else self._publisher.version,
            guard=decision.view(),
        )
        self._reporter.step(record, tokens=self._backend.state.trained_tokens)

    # --- between steps

    def _obey(self, action: GuardAction | None) -> None:
        """What the guard asks for that is more than a setting of the next record."""
        if action == "sync":
            self._publish()
        elif action == "pause":
            self._guarding.pause()
            self.pulse.stop()
        elif action == "rollback":
            self._writer.wait()
            kept = [path for path in checkpoint.stored(self._folder.checkpoints) if self._is_refuge(path)]
            refuge = next((path for path in reversed(kept) if checkpoint.is_whole(path)), None)
            if refuge is None:
                self._guarding.stay()
            else:
                to_step = checkpoint.step_of(refuge)
                self.rollback(to_step, self._guarding.roll_back(to_step))

    def _is_refuge(self, path: Path) -> bool:
        return checkpoint.step_of(path) in self._guarding.memory.state.healthy

    def _publish(self) -> None:
        self._publisher.publish(self.step)
        self.pulse.version = self._publisher.version
        self._probe.published(self._publisher.version, self.step)

    def _checkpoint(self) -> None:
        self._enter("checkpointing")
        started = time.time()
        self._writer.submit(self._training.snapshot(), self._guarding.healthy)
        self._checkpoint_seconds = time.time() - started

    def _enter(self, phase: str) -> None:
        self.pulse.enter(phase)
        known = {"records": len(self._books.outlines)} if self._books.outlines else {}
        self._progress.set(self._spec.job_id, phase=phase, **known)

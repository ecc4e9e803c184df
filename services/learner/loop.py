"""The learner's order of things.

    claim an epoch → restore the newest checkpoint → replay the records behind it → assert to Redis → publish anew →
    { wait for a batch → commit its record → finish its numbers → train → publish → report, checkpoint } → export

Invariants: nothing is trained before its record is linked; nothing is finished in Redis before that either; between
replayed records nothing is published; every write to Redis carries the epoch; before each commit, finish and publish
the disk is asked whether a newer learner was here. Checkpoints are written beside the training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import structlog

from services.disk.files import write_atomic
from services.disk.folder_version import FolderRefused, refuse_newer
from services.disk.layout import Layout
from services.job.guard import GuardAction
from services.job.spec import JobSpec
from services.journal.journal import Header, Journal
from services.journal.lineage import undone_versions
from services.journal.record import Record
from services.learner.batches.assembler import Assembler, Batch
from services.learner.batches.batch_wait import BatchWait
from services.learner.errors import NoSuchCheckpoint, OutOfMemory, WrongFolder, typed_disk_errors
from services.learner.guarding import Guarding
from services.learner.model.mismatch import MismatchProbe
from services.learner.model.training import Training
from services.learner.publishing import Publisher
from services.learner.recovery import checkpoint, result
from services.learner.recovery.attempts import Attempts, ran_out_of_memory
from services.learner.recovery.books import Books
from services.learner.recovery.checkpoint_writer import CheckpointWriter
from services.learner.recovery.restore import counts_in, cut_draft, restore
from services.learner.recovery.retention import Retention
from services.learner.reports.reporting import Reporter
from services.learner.reports.samples import Samples, gate_curve
from services.records.step import StepFigures
from services.store.client import Client
from services.store.job.looks import write_gate
from services.trajectories.codec import decode_group
from services.trajectories.progress import Progress
from sspo_proto.trajectory_pb2 import Group

log = structlog.get_logger()

CLOSING_SECONDS = 30.0
"""How long a learner that ends with an error lets a checkpoint end that is being written."""


class Learner:
    """Trains one job from wherever its journal stands to its last step."""

    def __init__(self, spec: JobSpec, client: Client, layout: Layout) -> None:
        self._spec = spec
        self._client = client
        self._layout = layout
        self._folder = layout.job(spec.job_id)
        self._progress = Progress(client)
        self._reporter = Reporter(spec, client, layout)
        self._journal = Journal(self._folder.journal)
        self._books = Books(spec, client, self._journal)
        self._attempts = Attempts(self._journal)
        self._guarding = Guarding(spec, client)
        self._retention = Retention(self._folder, self._journal, spec.learner)
        self._writer = CheckpointWriter(self._retention.save, self._reporter.checkpoint, spec.learner.wait_seconds)
        self._checkpoint_seconds = 0.0
        self._stop = False
        self.phase = "starting"
        self.moved_at = time.monotonic()
        """When the training thread last got somewhere, in monotonic seconds: a watchdog looks at it."""

    def stop(self) -> None:
        """End after the current step, with a checkpoint."""
        self._stop = True

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self._training.step

    @property
    def version(self) -> int:
        """The newest version published; 0 before the first."""
        return self._publisher.version if hasattr(self, "_publisher") else 0

    def run(self) -> str:
        """Train to the end ("finished") or until stopped ("drained").

        Raises LearnerError, Fenced, SequenceTaken, AttemptFailed.
        """
        try:
            with typed_disk_errors(str(self._layout.root)):
                return self._run()
        except (MemoryError, RuntimeError) as error:
            if ran_out_of_memory(error):
                raise OutOfMemory(f"{self._spec.model} does not fit into memory: {error}") from error
            raise
        finally:
            self._writer.close(CLOSING_SECONDS)
            self._reporter.close()

    def rollback(self, to_step: int, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Go back to the checkpoint with `to_step` steps; only between steps. Raises NoSuchCheckpoint, Fenced.

        `settings` is what the rollback's record says beside.
        """
        self._writer.wait()
        path = checkpoint.folder_of(self._folder.checkpoints, to_step)
        found = checkpoint.load(path) if path.exists() else None
        if found is None or to_step >= self.step or not counts_in(self._books.headers)(found):
            kept = [checkpoint.step_of(path) for path in checkpoint.stored(self._folder.checkpoints)]
            raise NoSuchCheckpoint(f"step {to_step} of {self.step}: checkpoints are kept of steps {kept}")
        draft = cut_draft(self._books.headers, to_step=to_step, settings=settings, policy_version=self.version)
        header = self._books.cut(draft)
        self._training.load(found)
        checkpoint.newest(self._folder.checkpoints, counts_in(self._books.headers))  # removes what this has undone
        self._assembler.undone = undone_versions(self._books.headers)
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
        self._training = Training(self._spec, self._layout.model(self._spec.model))
        self._publisher = Publisher(
            self._spec, self._progress, self._folder.weights, self._journal, self._training.policy
        )
        self._probe = MismatchProbe(self._spec, self._training.policy)
        self._samples = Samples(self._folder.samples, self._layout.model(self._spec.model))
        write_gate(self._folder, gate_curve(self._spec))
        self._restore()
        self._publish()
        if self.step == 0 and self._guarding.may_roll_back:
            self._checkpoint()
        if self.step == 0 and self._spec.evaluation is not None:
            self._progress.set(self._spec.job_id, evaluation_step=0)
        while self.step < self._spec.learner.steps and not self._stop:
            self._writer.poll()
            self._one_step()
        self._checkpoint()
        self._writer.wait()
        if self.step < self._spec.learner.steps:
            return "drained"
        self._enter("exporting")
        self._journal.check_epoch()
        self._training.policy.export(self._folder.export)
        self._enter("finished")
        return "finished"

    def _restore(self) -> None:
        self._books.read()
        self._enter("replaying")
        self._publisher.version = self._books.newest_version
        skipped = restore(self._training, self._books, self._folder.checkpoints, self._attempts, self._replay_record)
        self._books.assert_training()
        if skipped is not None:
            self._reporter.cut(skipped)
        learner = self._spec.learner
        self._assembler = Assembler(
            self._spec.job_id,
            learner.batch_size,
            learner.max_staleness,
            self._books.finished(),
            drop_uninformative=learner.drop_uninformative_groups,
            vocab_size=self._training.policy.vocab_size,
        )
        self._assembler.undone = undone_versions(self._books.headers)
        self._wait = BatchWait(self._spec, self._client, self._assembler)
        if self._guarding.recall(self._books, self._reporter.said_of):
            self._obey("pause")
        log.info("learner_restored", step=self.step, epoch=self._journal.epoch, records=len(self._books.headers))

    def _remind(self) -> None:
        """About every second of a wait: end if replaced, assert again what Redis has forgotten while we live."""
        self.moved_at = time.monotonic()
        self._journal.check_epoch()
        self._writer.poll()
        known = self._progress.read(self._spec.job_id)
        if self._books.forgotten_by(known, self.step):
            log.warning("redis_forgot", next_step=known.next_step, step=self.step)
            self._books.assert_training()
            self._enter(self.phase)
        if known.policy_version < self.version:
            self._publisher.name()

    def _one_step(self) -> None:
        self._enter("waiting_for_batch")
        waiting_since = time.time()
        batch = self._wait.next_batch(self.step, settle=self._settle, remind=self._remind, stopping=lambda: self._stop)
        if batch is None:
            return
        started = time.time()
        header, groups = self._settle(batch), [scored.group for scored in batch.groups]
        self._enter("training")
        figures = self._train(header, groups)
        self._enter("publishing")
        trained = time.time()
        self._publish()
        now, waited, held = time.time(), started - waiting_since, self._wait.staleness_seconds
        times = {
            "wait_seconds": waited,
            "seconds": now - started,
            "waits": {
                "batch": waited - held,
                "staleness": held,
                "publish": now - trained,
                "checkpoint": self._checkpoint_seconds,
            },
        }
        drift = self._probe.complete(figures["drift"], groups, header.step)
        figures = {**figures, **times, "drift": drift, "epoch": self._journal.epoch, "policy_version": self.version}
        decision = self._guarding.look(header.step, StepFigures.model_validate(figures))
        figures["guard"] = decision.view()
        self._journal.check_epoch()  # one that was replaced while it hung says nothing of steps any more
        self._reporter.step(header, figures, tokens=self._training.trainer.state.trained_tokens, replayed=False)
        trainer, self._checkpoint_seconds = self._training.trainer, 0.0
        self._samples.add(header.step, groups[0], trainer.token_log, trainer.watched_advantages)
        if self.step % self._spec.learner.checkpoint_every == 0:
            self._checkpoint()
        self._obey(decision.action)

    def _obey(self, action: GuardAction | None) -> None:
        """What the guard asks for that is more than a setting of the next record."""
        if action == "sync":
            self._publish()
        elif action == "pause":
            self._guarding.pause()
            self._stop = True
        elif action == "rollback":
            self._writer.wait()
            to_step = self._guarding.refuge(self._folder.checkpoints)
            if to_step is not None:
                self.rollback(to_step, self._guarding.roll_back(to_step))

    def _settle(self, batch: Batch) -> Header:
        return self._books.settle(batch, self.step, self.version, self._guarding.settings())

    def _replay_record(self, record: Record) -> None:
        header = record.header
        started = time.time()
        before = result.read(self._journal.result_path(header.sequence))
        figures = self._train(header, [decode_group(payload) for payload in record.payloads])
        figures["guard"] = self._guarding.take_up(
            header.settings, header.step, StepFigures.model_validate(figures)
        ).view()
        after = result.read(self._journal.result_path(header.sequence))
        if before is not None and after is not None and (differing := result.differing(before, after)):
            log.warning("replay_differs", step=header.step, fields=differing)
            self._reporter.replay_differs(header, differing)
        about = {
            "seconds": time.time() - started,
            "epoch": self._journal.epoch,
            "policy_version": header.policy_version,
        }
        tokens = self._training.trainer.state.trained_tokens
        self._reporter.step(header, {**figures, **about}, tokens=tokens, replayed=True)

    def _publish(self) -> None:
        self._publisher.publish(self.step)
        self._probe.published(self.version, self.step)

    def _train(self, header: Header, groups: list[Group]) -> dict[str, Any]:
        """Train a record, with a mark for as long as it lasts, and leave evidence of what it gave."""
        with self._attempts.attempt(header.sequence):
            figures = self._training.train(header, groups)
        saved = self.step % self._spec.learner.checkpoint_every == 0
        outcome = result.result_of(header.step, figures, self._training.policy.tensors(), digest=saved)
        result.write(self._journal.result_path(header.sequence), outcome)
        self.moved_at = time.monotonic()
        return figures

    def _checkpoint(self) -> None:
        self._enter("checkpointing")
        started = time.time()
        self._retention.protected = self._guarding.healthy
        self._writer.submit(self._training.snapshot())
        self._checkpoint_seconds = time.time() - started

    def _enter(self, phase: str) -> None:
        self.phase, self.moved_at = phase, time.monotonic()
        known = {"records": len(self._books.headers)} if self._books.headers else {}
        self._progress.set(self._spec.job_id, phase=phase, **known)

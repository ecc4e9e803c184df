"""Returns to an earlier state: after a restart to the end of the journal, and at a rollback to an older checkpoint.

Invariants: between replayed records nothing is published; what a rollback undoes is told to Redis before anything new
is published.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

import structlog

from services.drift.guard import Decision
from services.journal.lineage import surviving, undone_versions
from services.journal.record import Outline, Record
from services.learner.errors import NoSuchCheckpoint
from services.learner.parts import Parts
from services.learner.recovery import checkpoint
from services.learner.recovery.restore import counts_in, cut_draft, plan, skip
from services.learner.reports.step_record import step_record
from services.trajectories.codec import decode_group

log = structlog.get_logger()


class Returning:
    """Brings one learner back to a state that its journal and checkpoints tell."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def restore(self) -> Decision | None:
        """Newest checkpoint, then the records behind it, then everything Redis should know.

        Answers what the guard had decided and nobody could act on any more.
        """
        parts = self._parts
        parts.books.read()
        parts.enter("replaying")
        parts.publisher.go_on_from(parts.books.newest_version)
        checkpoint.load_newest(parts.folder.checkpoints, counts_in(parts.books.outlines), parts.training.load)
        ahead = plan(parts.books, parts.training.step, parts.attempts)
        for sequence in ahead.replay:
            self._replay(parts.journal.read(sequence))
        skipped = skip(parts.books, ahead.killer, parts.attempts) if ahead.killer else None
        parts.books.assert_training()
        if skipped is not None:
            parts.reporter.went_back(skipped)
        parts.assembler.finish(parts.books.finished())
        parts.assembler.undo(undone_versions(parts.books.outlines))
        decision = self._recall()
        parts.guarding.announce()
        records = len(parts.books.outlines)
        log.info("learner_restored", step=parts.training.step, epoch=parts.journal.epoch, records=records)
        return decision

    def roll_back(self, to_step: int, settings: Mapping[str, object] = MappingProxyType({})) -> None:
        """Go back to the checkpoint with `to_step` steps; only between steps. Raises NoSuchCheckpoint, Fenced.

        `settings` is what the rollback's record says beside.
        """
        parts = self._parts
        parts.writer.wait()
        path = checkpoint.folder_of(parts.folder.checkpoints, to_step)
        found = checkpoint.look(path) if path.exists() else None
        step, outlines = parts.training.step, parts.books.outlines
        if found is None or to_step >= step or not counts_in(outlines)(found):
            kept = [checkpoint.step_of(path) for path in checkpoint.stored(parts.folder.checkpoints)]
            raise NoSuchCheckpoint(f"step {to_step} of {step}: checkpoints are kept of steps {kept}")
        parts.training.load(found)  # before the record: a checkpoint that can't be read must not be gone back to
        version = parts.publisher.version
        header = parts.books.go_back(cut_draft(outlines, to_step=to_step, settings=settings, policy_version=version))
        checkpoint.remove_undone(parts.folder.checkpoints, counts_in(parts.books.outlines))
        parts.assembler.undo(undone_versions(parts.books.outlines))
        parts.books.assert_training()
        parts.probe.went_back()
        parts.publish()
        parts.reporter.went_back(header)

    def refuge(self) -> int | None:
        """Step of the newest healthy checkpoint that is kept and whole; damaged ones are set aside."""
        parts = self._parts
        healthy = parts.guarding.memory.state.healthy
        kept = [path for path in checkpoint.stored(parts.folder.checkpoints) if checkpoint.step_of(path) in healthy]
        return next((checkpoint.step_of(path) for path in reversed(kept) if checkpoint.is_whole(path)), None)

    def _replay(self, record: Record) -> None:
        parts, header = self._parts, record.header
        started = time.time()
        groups = [decode_group(payload) for payload in record.payloads]
        figures, differing = parts.evidence.train_again(header, groups)
        parts.pulse.beat()
        decision = parts.guarding.take_up(header.settings, header.step, figures)
        if differing:
            log.warning("replay_differs", step=header.step, fields=differing)
            parts.reporter.replay_differs(header, differing)
        said = step_record(
            header,
            figures,
            decision.view(),
            epoch=parts.journal.epoch,
            policy_version=header.policy_version,
            seconds=time.time() - started,
            replayed=True,
        )
        parts.reporter.step(said, tokens=parts.backend.state.trained_tokens)

    def _recall(self) -> Decision | None:
        """Have the guard know what the one before knew, from the newest record that says it, and from its step if that
        counts; answers the decision that it died before acting on."""
        parts = self._parts
        newest = next((one for one in reversed(parts.books.outlines) if one.kind in ("step", "rollback")), None)
        if newest is None:
            parts.guarding.begin()
            return None
        settings = parts.journal.settings(newest.sequence)
        said = parts.reporter.said_of(newest.step) if self._counts(newest) else None
        if said is None:
            parts.guarding.recall(settings)
            return None
        decision = parts.guarding.take_up(settings, newest.step, said)
        if decision.action == "pause" and parts.guarding.runs_since_before(newest.written_at):
            parts.guarding.tell(newest.step, decision)
            return decision
        return None

    def _counts(self, newest: Outline) -> bool:
        """Whether a record is of the step trained last."""
        steps = surviving(self._parts.books.outlines)
        return newest.kind == "step" and bool(steps) and steps[-1].sequence == newest.sequence

"""Trains a record: a mark lies on disk as long as the training lasts, and the outcome is kept beside the record."""

from __future__ import annotations

from collections.abc import Sequence

from services.journal.journal import Journal
from services.journal.record import Header
from services.learner.recovery import result
from services.learner.recovery.attempts import Attempts
from services.learner.recovery.result import StepResult
from services.learner.training import Training
from services.records.step import StepFigures
from sspo_proto.trajectory_pb2 import Group


class Evidence:
    """Trains the records of one journal."""

    def __init__(self, journal: Journal, attempts: Attempts, training: Training, checkpoint_every: int) -> None:
        self._journal = journal
        self._attempts = attempts
        self._training = training
        self._checkpoint_every = checkpoint_every

    def train(self, header: Header, groups: Sequence[Group]) -> StepFigures:
        """Train a record for the first time. Raises AttemptFailed, and what `Training.train` does."""
        return self._train(header, groups)[0]

    def train_again(self, header: Header, groups: Sequence[Group]) -> tuple[StepFigures, list[str]]:
        """Train a record that was trained before; answers the names of figures that are not the same to the bit."""
        before = result.read(self._journal.result_path(header.sequence))
        figures, after = self._train(header, groups)
        return figures, result.differing(before, after) if before is not None else []

    def _train(self, header: Header, groups: Sequence[Group]) -> tuple[StepFigures, StepResult]:
        with self._attempts.attempt(header.sequence):
            figures = self._training.train(header, groups)
        digest = self._training.step % self._checkpoint_every == 0
        outcome = result.result_of(header.step, figures, self._training.backend, digest=digest)
        result.write(self._journal.result_path(header.sequence), outcome)
        return figures, outcome

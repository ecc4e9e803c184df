"""Typed ends of a learner. Each of them fails the job with its code; anything else is a crash and is restarted."""

from __future__ import annotations


class LearnerError(Exception):
    """Base: `code` goes into the job's error."""

    code = "learner_error"


class JournalDamaged(LearnerError):
    """A record is missing, fails its hash or breaks the chain."""

    code = "journal_damaged"


class CheckpointDamaged(LearnerError):
    """A checkpoint fails its hashes."""

    code = "checkpoint_damaged"


class TrainingDiverged(LearnerError):
    """Too many updates were skipped for a non-finite loss or gradient."""

    code = "training_diverged"


class BatchTimeout(LearnerError):
    """No full batch came before the deadline although workers are wanted."""

    code = "batch_timeout"


class SequenceTaken(Exception):
    """Another learner committed this place of the journal: this one lost and must end itself."""

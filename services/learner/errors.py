"""Typed ends of a learner.

An error in `FATAL` fails the job with its code, and its message says what to do. The other errors, and every crash, end
the learner and not the job: a new learner is started.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from services.disk.files import FULL
from services.journal.errors import JournalDamaged


class LearnerError(Exception):
    """Base: `code` goes into the job's error."""

    code = "learner_error"


class CheckpointDamaged(LearnerError):
    """A checkpoint fails its hashes."""

    code = "checkpoint_damaged"


class CheckpointFailed(LearnerError):
    """A checkpoint could not be written."""

    code = "checkpoint_failed"


class NoSuchCheckpoint(LearnerError):
    """A rollback to a step of which no checkpoint is kept."""

    code = "no_such_checkpoint"


class DiskFull(LearnerError):
    """No space is left on the device."""

    code = "disk_full"


class DiskQuota(LearnerError):
    """The job would need more than its `disk_quota_bytes`."""

    code = "disk_quota"


class WrongFolder(LearnerError):
    """The data folder is not of this version's shape."""

    code = "folder_version"


class TrainingDiverged(LearnerError):
    """Too many updates were skipped for a non-finite loss or gradient."""

    code = "training_diverged"


class OutOfMemory(LearnerError):
    """The model and its optimiser don't fit into memory."""

    code = "out_of_memory"


class TooManySkips(LearnerError):
    """Several records in a row each ended their learners, so the cause is not the records. `code` is the last end."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class BatchTimeout(LearnerError):
    """No full batch came before the deadline although workers are wanted."""

    code = "batch_timeout"


class AttemptFailed(Exception):
    """Training a record needed more memory than there is: a new learner tries again, and skips it in the end."""


FATAL = (LearnerError, JournalDamaged)
"""Errors that fail the job; each has a `code`."""


@contextmanager
def typed_disk_errors(where: str) -> Iterator[None]:
    """Turn "no space left" into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(f"{where}: {errno.errorcode[error.errno]}") from error
        raise


def disk_full(what: str) -> DiskFull:
    """The error, with the way out."""
    return DiskFull(f"{what}; make space there (finished jobs' folders are the largest), then resume the job")


class LearnerStalled(Exception):
    """The training thread hangs; a new learner goes on from journal and checkpoint."""


class CheckpointStalled(Exception):
    """A checkpoint is still being written although the next one is due and the deadline has passed. A new learner goes
    on from an older checkpoint and the journal. If the disk hangs for good, learners are lost without progress until
    the job fails."""

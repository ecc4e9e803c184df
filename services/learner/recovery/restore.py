"""How a learner gets to where its journal ends: newest checkpoint that counts, then the records behind it.

A record that ended `MOST_ATTEMPTS` learners is not trained again: a `skip` is committed. Training goes back to the step
before it, its groups become `poison`, and those of steps behind it, if a damaged checkpoint made an old record kill,
`rolled_back`. Steps stay without a hole, so that a job still makes all its steps: the dispatcher issues another batch
for the one that was lost. Too many skips in a row mean that it is not the records, and fail the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from services.journal.errors import JournalDamaged
from services.journal.journal import Draft, Header
from services.journal.lineage import skips_in_a_row, still_counts, surviving
from services.journal.record import Record
from services.learner.errors import TooManySkips
from services.learner.model.training import Training
from services.learner.recovery import checkpoint
from services.learner.recovery.attempts import KILLED, MOST_ATTEMPTS, Attempts
from services.learner.recovery.books import Books
from services.learner.recovery.checkpoint import Snapshot
from services.trajectories.outcomes import DropReason

log = structlog.get_logger()

MOST_SKIPS = 3
"""Records skipped in a row, with no step in between that went well."""


def restore(
    training: Training, books: Books, checkpoints: Path, attempts: Attempts, train: Callable[[Record], None]
) -> Header | None:
    """Bring `training` to the end of the journal; answers the header of a `skip`, if there had to be one.

    Raises JournalDamaged, TooManySkips, and whatever `train` does.
    """
    steps = surviving(books.headers)
    found = checkpoint.newest(checkpoints, counts_in(books.headers))
    if found is not None:
        training.load(found)
    if training.step > len(steps):
        raise JournalDamaged(
            f"the newest checkpoint has {training.step} steps and the journal only {len(steps)}: put back the missing "
            "records from a backup of the journal"
        )
    for header in steps[training.step :]:
        causes = attempts.causes(header.sequence)
        if len(causes) >= MOST_ATTEMPTS:
            skipped = _skip(books, header, causes, attempts)
            attempts.clear(header.sequence)
            return skipped
        train(books.journal.read(header.sequence))
    return None


def counts_in(headers: Sequence[Header]) -> Callable[[Snapshot], bool]:
    """Which checkpoints are of the lineage that these headers tell."""
    return lambda found: still_counts(headers, step=found.state.next_step, sequence=found.sequence)


def cut_draft(
    headers: Sequence[Header],
    *,
    to_step: int,
    poison: Sequence[int] = (),
    causes: Sequence[str] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
    policy_version: int = 0,
) -> Draft:
    """A record that goes back to `to_step`: a `skip` when there is poison, else a `rollback`.

    `policy_version` is the newest published, where that is known to be newer than what the headers say.
    """
    undone = [number for header in surviving(headers)[to_step:] for number in header.trained]
    rolled_back = [number for number in undone if number not in set(poison)]
    return Draft(
        kind="skip" if poison else "rollback",
        step=to_step,
        cursor=max(header.cursor for header in headers),
        dropped={DropReason.POISON.value: poison, DropReason.ROLLED_BACK.value: rolled_back},
        settings=settings,
        policy_version=max(policy_version, *(header.policy_version for header in headers)),
        causes=causes,
    )


def _skip(books: Books, header: Header, causes: Sequence[str], attempts: Attempts) -> Header:
    if skips_in_a_row(books.headers[: header.sequence]) >= MOST_SKIPS:
        attempts.clear(header.sequence)  # whoever resumes the job tries again
        raise _too_many(causes)
    log.error("record_skipped", sequence=header.sequence, step=header.step, causes=causes)
    return books.cut(cut_draft(books.headers, to_step=header.step, poison=header.trained, causes=causes))


def _too_many(causes: Sequence[str]) -> TooManySkips:
    known = [cause for cause in causes if cause != KILLED]
    return TooManySkips(
        f"{MOST_SKIPS} records in a row were skipped and the next one ended {len(causes)} learners too "
        f"({', '.join(causes)}): it is not the records. Resume the job on a machine with more memory, or make a new "
        "one with a smaller learner.tokens_per_microbatch",
        code=known[-1] if known else "learner_crash_loop",
    )

"""The way to the end of the journal: load the newest checkpoint that counts, then train the records after it.

A record that ended `MOST_ATTEMPTS` learners is not trained again: a `skip` is committed. Training goes back to the step
before it, and its groups become `poison`. Later steps can be undone too, when a damaged checkpoint led to an old
record; their groups become `rolled_back`. Steps stay without a hole: the dispatcher issues another batch for the lost
one, so a job still makes all its steps. After too many skips in a row the cause is not the records, and the job fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from services.journal.errors import JournalDamaged
from services.journal.journal import Draft
from services.journal.lineage import skips_in_a_row, still_counts, surviving
from services.journal.record import Header, Outline
from services.learner.errors import TooManySkips
from services.learner.recovery.attempts import KILLED, MOST_ATTEMPTS, Attempts
from services.learner.recovery.books import Books
from services.learner.recovery.checkpoint import Stored
from services.trajectories.outcomes import DropReason

log = structlog.get_logger()

MOST_SKIPS = 3
"""Records skipped in a row, with no step in between that went well."""


@dataclass(frozen=True)
class Killer:
    """A record that ended too many learners, and how."""

    outline: Outline
    causes: Sequence[str]


@dataclass(frozen=True)
class Plan:
    """The work that is left after the checkpoint was loaded."""

    replay: Sequence[int]
    """Sequences of the records to train again, in this order."""
    killer: Killer | None
    """The record behind them that must be skipped."""


def plan(books: Books, step: int, attempts: Attempts) -> Plan:
    """From a checkpoint with `step` steps to the end of the journal. Raises JournalDamaged."""
    steps = surviving(books.outlines)
    if step > len(steps):
        raise JournalDamaged(
            f"the newest checkpoint has {step} steps and the journal only {len(steps)}: put back the missing "
            "records from a backup of the journal"
        )
    replay: list[int] = []
    for outline in steps[step:]:
        causes = attempts.causes(outline.sequence)
        if len(causes) >= MOST_ATTEMPTS:
            return Plan(replay, Killer(outline, causes))
        replay.append(outline.sequence)
    return Plan(replay, None)


def skip(books: Books, killer: Killer, attempts: Attempts) -> Header:
    """Commit the record that goes back before the killer. Raises TooManySkips."""
    outline, causes = killer.outline, killer.causes
    if skips_in_a_row(books.outlines[: outline.sequence]) >= MOST_SKIPS:
        attempts.clear(outline.sequence)  # whoever resumes the job tries again
        raise _too_many(causes)
    log.error("record_skipped", sequence=outline.sequence, step=outline.step, causes=causes)
    header = books.go_back(cut_draft(books.outlines, to_step=outline.step, poison=outline.trained, causes=causes))
    attempts.clear(outline.sequence)
    return header


def counts_in(outlines: Sequence[Outline]) -> Callable[[Stored], bool]:
    """A test for checkpoints: is one of the lineage that these outlines tell?"""
    return lambda found: still_counts(outlines, step=found.state.next_step, sequence=found.sequence)


def cut_draft(
    outlines: Sequence[Outline],
    *,
    to_step: int,
    poison: Sequence[int] = (),
    causes: Sequence[str] = (),
    settings: Mapping[str, object] = MappingProxyType({}),
    policy_version: int = 0,
) -> Draft:
    """A record that goes back to `to_step`: a `skip` when there is poison, else a `rollback`.

    `policy_version` is the newest published version, if it is newer than those in the outlines.
    """
    undone = [number for outline in surviving(outlines)[to_step:] for number in outline.trained]
    rolled_back = [number for number in undone if number not in set(poison)]
    return Draft(
        kind="skip" if poison else "rollback",
        step=to_step,
        cursor=max(outline.cursor for outline in outlines),
        dropped={DropReason.POISON.value: poison, DropReason.ROLLED_BACK.value: rolled_back},
        settings=settings,
        policy_version=max(policy_version, *(outline.policy_version for outline in outlines)),
        causes=causes,
    )


def _too_many(causes: Sequence[str]) -> TooManySkips:
    known = [cause for cause in causes if cause != KILLED]
    return TooManySkips(
        f"{MOST_SKIPS} records in a row were skipped and the next one ended {len(causes)} learners too "
        f"({', '.join(causes)}): it is not the records. Resume the job on a machine with more memory, or make a new "
        "one with a smaller learner.tokens_per_microbatch",
        code=known[-1] if known else "learner_crash_loop",
    )

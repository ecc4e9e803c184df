"""Reads the headers of a journal together: which steps survive, and what became of every group.

Pure arithmetic. Training goes forward one step per `step` record. A *cut* (`skip` or `rollback`) goes back to its step:
the steps from there on are undone, their numbers are dropped by the cut's reasons, and the next `step` record has that
step again. So the steps that survive are always 0, 1, 2, ... without a hole, each trained with one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from services.journal.errors import JournalDamaged
from services.journal.record import Outline
from services.trajectories.outcomes import TRAINED

CUTS = ("skip", "rollback")
AnOutline = TypeVar("AnOutline", bound=Outline)


def surviving(headers: Sequence[AnOutline]) -> list[AnOutline]:
    """The `step` records whose training counts: the one at index i is of step i. Raises JournalDamaged."""
    steps: list[AnOutline] = []
    for header in headers:
        if header.kind == "step":
            if header.step != len(steps):
                raise JournalDamaged(f"record {header.sequence} is of step {header.step}, expected {len(steps)}")
            steps.append(header)
        elif header.kind in CUTS:
            if header.step > len(steps):
                raise JournalDamaged(f"record {header.sequence} goes back to {header.step} of {len(steps)} steps")
            del steps[header.step :]
    return steps


def still_counts(headers: Sequence[Outline], *, step: int, sequence: int) -> bool:
    """Whether no later cut undoes weights with `step` steps, the last of which record `sequence` trained."""
    return all(header.step >= step for header in headers if header.kind in CUTS and header.sequence > sequence)


def skips_in_a_row(headers: Sequence[Outline]) -> int:
    """How many records were skipped at the end, with no step in between that survived."""
    alive = {header.sequence for header in surviving(headers)}
    count = 0
    for header in reversed(headers):
        if header.kind == "rollback" or header.sequence in alive:
            break
        count += header.kind == "skip"
    return count


def undone_versions(headers: Sequence[Outline]) -> list[range]:
    """Policy versions whose weights a cut has undone: groups sampled under them are of no use any more.

    The record of the step gone back to names the version that has its weights.
    """
    steps: list[Outline] = []
    undone = []
    for header in headers:
        if header.kind == "step":
            steps.append(header)
        elif header.kind in CUTS and header.step < len(steps):
            undone.append(range(steps[header.step].policy_version + 1, header.policy_version + 1))
            del steps[header.step :]
    return [versions for versions in undone if versions]


def finished_numbers(headers: Sequence[Outline]) -> dict[str, list[int]]:
    """Outcome ("trained" or a drop reason) -> numbers, over all headers."""
    undone = {n for header in headers if header.kind in CUTS for numbers in header.dropped.values() for n in numbers}
    outcome: dict[str, list[int]] = {TRAINED: []}
    for header in headers:
        outcome[TRAINED] += [number for number in header.trained if number not in undone]
        for reason, numbers in header.dropped.items():
            outcome.setdefault(reason, []).extend(numbers)
    return outcome

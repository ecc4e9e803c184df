"""What a journal alone says of a job: every number has one outcome, and none is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.journal.journal import Journal
from services.journal.lineage import CUTS, finished_numbers, surviving
from services.journal.record import Outline
from services.trajectories.outcomes import TRAINED


@dataclass(frozen=True)
class Audit:
    """What the journal alone says of a job."""

    records: int
    steps: int
    """Steps that survive."""
    trained: int
    dropped: dict[str, int]
    last_cursor: int
    trained_twice: list[int]
    """Numbers with more than one outcome, and numbers undone that were not trained."""
    missing: list[int]
    """Numbers below the last cursor that are neither trained nor dropped."""
    closed: bool

    @property
    def clean(self) -> bool:
        return not self.trained_twice and not self.missing


def audit_headers(headers: Sequence[Outline]) -> Audit:
    """Count every number's outcomes. Raises JournalDamaged."""
    steps = surviving(headers)
    alive = {header.sequence for header in steps}
    times: Counter[int] = Counter()
    undone: Counter[int] = Counter()
    for header in headers:
        dropped = [number for numbers in header.dropped.values() for number in numbers]
        (undone if header.kind in CUTS else times).update(dropped)
        times.update(header.trained)
    cut = Counter(number for header in headers if header.sequence not in alive for number in header.trained)
    wrong = {n for n, count in times.items() if count > 1} | {n for n in undone | cut if undone[n] != 1 or cut[n] != 1}
    outcome = finished_numbers(headers)
    cursor = max((header.cursor for header in headers), default=0)
    return Audit(
        records=len(headers),
        steps=len(steps),
        trained=len(outcome.pop(TRAINED)),
        dropped={reason: len(numbers) for reason, numbers in outcome.items()},
        last_cursor=cursor,
        trained_twice=sorted(wrong),
        missing=[number for number in range(cursor) if number not in times],
        closed=any(header.kind == "close" for header in headers),
    )


def audit(folder: Path) -> Audit:
    """Read all headers of a journal and nothing else. Raises JournalDamaged."""
    return audit_headers(list(Journal(folder).headers()))

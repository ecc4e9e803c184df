"""The journal of a job with the outlines of its records in memory, and the assertions to Redis.

Invariants: a record is committed before anything of it is finished in Redis; the disk is asked before both whether a
newer learner was here; the outlines alone suffice to assert again what Redis forgot.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.faults import fault
from services.job.spec import JobSpec
from services.journal.errors import JournalDamaged
from services.journal.journal import Draft, Journal
from services.journal.lineage import finished_numbers, surviving
from services.journal.record import Header, Outline
from services.learner.batches.assembler import Batch
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.progress import Progress, ProgressRecord


class Books:
    """Keeps account of groups that were trained and dropped, on disk and in Redis."""

    def __init__(self, spec: JobSpec, client: Client, journal: Journal) -> None:
        self._spec = spec
        self._client = client
        self._progress = Progress(client)
        self.journal = journal
        self.outlines: list[Outline] = []

    @property
    def next_step(self) -> int:
        """The step after the last that survives."""
        return len(surviving(self.outlines))

    @property
    def newest_version(self) -> int:
        """Highest policy version that the journal knows of."""
        return max((outline.policy_version for outline in self.outlines), default=0)

    def finished(self) -> list[int]:
        """Every number that was trained or dropped."""
        return [number for numbers in finished_numbers(self.outlines).values() for number in numbers]

    def read(self) -> None:
        """Read all headers. Raises JournalDamaged.

        A journal that ends before what Redis knows of must never be taken for a fresh start.
        """
        self.outlines = [header.outline() for header in self.journal.headers()]
        known = self._progress.read(self._spec.job_id)
        ever = 1 + max((outline.step for outline in self.outlines if outline.kind == "step"), default=-1)
        if known.records > len(self.outlines) or known.next_step > ever:
            raise JournalDamaged(
                f"Redis knows of {known.records} records and {known.next_step} steps, the journal holds "
                f"{len(self.outlines)} and {ever}: put the missing records back from a backup of the journal"
            )

    def go_back(self, draft: Draft) -> Header:
        """Commit a record that goes back; Redis has to be told by `assert_training`. Raises Fenced, SequenceTaken."""
        header = self.journal.commit(draft)
        self.outlines.append(header.outline())
        return header

    def commit(self, batch: Batch, step: int, policy_version: int, settings: Mapping[str, object]) -> Header:
        """Commit a batch (or only drops), then finish its numbers in Redis. Raises Fenced, SequenceTaken.

        `settings` is what a batch is trained with.
        """
        # A Redis that lost its tail may have a cursor behind numbers that we hold.
        numbers = [scored.number for scored in batch.groups] + [
            n for dropped in batch.dropped.values() for n in dropped
        ]
        draft = Draft(
            kind="step" if batch.groups else "drop",
            step=step,
            cursor=max([streams.cursor(self._client, self._spec.job_id), *(n + 1 for n in numbers)]),
            groups=[(scored.number, scored.payload) for scored in batch.groups],
            dropped=batch.dropped,
            settings=settings if batch.groups else {},
            policy_version=policy_version,
        )
        header = self.journal.commit(draft)
        self.outlines.append(header.outline())
        self.journal.check_epoch()
        self._progress.finish(
            self._spec.job_id,
            epoch=self.journal.epoch,
            next_step=step + (1 if batch.groups else 0),
            numbers=finished_numbers([header]),
            entry_ids=batch.entry_ids,
        )
        fault("learner.after_finish")
        return header

    def assert_training(self) -> None:
        """Tell Redis what the journal says of finished numbers. Raises Fenced."""
        self.journal.check_epoch()
        self._progress.assert_training(
            self._spec.job_id,
            epoch=self.journal.epoch,
            next_step=self.next_step,
            cursor_at_least=max([0, *(outline.cursor for outline in self.outlines)]),
            numbers=finished_numbers(self.outlines),
        )

    def forgotten_by(self, known: ProgressRecord, step: int) -> bool:
        """Whether Redis may have forgotten something that this learner told it, or steps before `step`."""
        told = self._progress.asserted(known) and known.epoch == self.journal.epoch
        return not told or known.next_step < step

"""The write-ahead log of training: the truth about which groups were trained, dropped, and why.

One file per record, `journal/<sequence>.rec`; `record` says what is in it, `lineage` what they mean together. Kinds:
`step` (a batch that is trained), `drop` (groups finished without training), `skip` and `rollback` (go back to a step),
`close` (end of the job).

Invariants: a record is complete and fsynced before it gets its name; it gets its name by `link`, which fails if the
place is taken, and that link is the commit; each header holds the hash of the record before, so that a gap or an
exchange can't go unseen. Groups are pruned once retained checkpoints stand for them. Headers stay for ever, and they
hold all that has to be asserted to Redis: next step, cursor, the fate of every number.

Epochs are claimed with exclusive files in the same folder and are dense, so that one look tells whether a newer learner
was here. Redis refuses an older epoch too, but may have lost the newer one with its tail; the disk has not. Between
that look and the link a newer learner may still arrive; then the link decides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.disk.files import claim, durable, fsync, link_exclusively, make_folder, remove_leftovers
from services.faults import fault
from services.job.strict_json import JsonObject
from services.journal.errors import JournalDamaged, SequenceTaken
from services.journal.record import Header, Kind, Record, pack, payload_hash, read_head, read_header, read_record
from services.trajectories.outcomes import Fenced


@dataclass(frozen=True)
class Draft:
    """The caller's part of a new record; the journal adds its place in the chain."""

    kind: Kind
    step: int
    cursor: int
    groups: Sequence[tuple[int, bytes]] = ()
    dropped: Mapping[str, Sequence[int]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    policy_version: int = 0
    causes: Sequence[str] = ()


class Journal:
    """The journal of one job, written by one epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epoch = 0
        self._next = 0
        self._previous = ""
        self._pruned = 0

    def claim_epoch(self) -> int:
        """Become the newest writer: epoch = 1 + the highest on disk, claimed with an exclusive file."""
        make_folder(self.folder)
        while True:
            epoch = 1 + max((int(path.suffix[1:]) for path in self.folder.glob("epoch.*")), default=0)
            try:
                claim(self._epoch_path(epoch), f"{os.getpid()} {time.time()}\n".encode())
            except FileExistsError:
                continue
            self.epoch = epoch
            remove_leftovers(self.folder, ".record-*", ".pruned-*", ".*.out.*")
            return epoch

    def check_epoch(self) -> None:
        """Raise Fenced when a newer learner has claimed this journal."""
        if self._epoch_path(self.epoch + 1).exists():
            raise Fenced(f"epoch {self.epoch} is over: a newer learner has claimed {self.folder}")

    def headers(self) -> Iterator[Header]:
        """All headers in order, verified; positions the journal behind the last one read. Raises JournalDamaged."""
        self._next, self._previous = 0, ""
        last = max((int(path.stem) for path in self.folder.glob("*.rec")), default=-1)
        while self._next <= last:
            header, digest = read_header(self._path(self._next))
            if header.sequence != self._next or header.previous != self._previous:
                raise JournalDamaged(
                    f"record {self._next} does not follow the one before it: put it back from a backup"
                )
            self._next, self._previous = self._next + 1, digest
            yield header

    def read(self, sequence: int) -> Record:
        """One record with its groups, verified. Raises JournalDamaged, also when they were pruned."""
        return read_record(self._path(sequence))

    def settings(self, sequence: int) -> JsonObject:
        """The settings in a record; its groups are not read. Raises JournalDamaged."""
        return read_header(self._path(sequence))[0].settings

    def is_pruned(self, sequence: int) -> bool:
        """Whether a record has lost its groups. Raises JournalDamaged."""
        path = self._path(sequence)
        return bool(read_header(path)[0].sizes) and not read_head(path)[1]

    def commit(self, draft: Draft) -> Header:
        """Write, fsync and link one record.

        Raises Fenced when a newer learner claimed the journal, SequenceTaken when another was there first.
        """
        self.check_epoch()
        payloads = [payload for _, payload in draft.groups]
        header = Header(
            sequence=self._next,
            kind=draft.kind,
            step=draft.step,
            epoch=self.epoch,
            previous=self._previous,
            cursor=draft.cursor,
            trained=[number for number, _ in draft.groups],
            dropped={reason: list(numbers) for reason, numbers in draft.dropped.items() if numbers},
            sizes=[len(payload) for payload in payloads],
            payload_hash=payload_hash(payloads),
            settings=dict(draft.settings),
            policy_version=draft.policy_version,
            causes=list(draft.causes),
            written_at=time.time(),
        )
        head, digest = pack(header)
        temporary = self.folder / f".record-{header.sequence}-{self.epoch}-{os.getpid()}"
        with durable(temporary) as file:
            file.writelines([head, *payloads])
        fault("learner.before_link")
        try:
            link_exclusively(temporary, self._path(header.sequence))
        except FileExistsError as error:
            raise SequenceTaken(f"record {header.sequence} was committed by another learner") from error
        finally:
            temporary.unlink()
        fault("learner.after_link")
        self._next, self._previous = header.sequence + 1, digest
        return header

    def prune(self, below: int) -> int:
        """Remove the groups of records with a sequence below `below`; returns of how many. Headers stay.

        A record is replaced by its head in one rename: an interruption leaves one of the two, whole.
        """
        pruned = 0
        for sequence in range(self._pruned, below):
            head, has_groups = read_head(self._path(sequence))
            if has_groups:
                temporary = self.folder / f".pruned-{sequence}-{self.epoch}-{os.getpid()}"
                with durable(temporary) as file:
                    file.write(head)
                os.rename(temporary, self._path(sequence))
                pruned += 1
            self.result_path(sequence).unlink(missing_ok=True)
        if pruned:
            fsync(self.folder)
        self._pruned = max(self._pruned, below)
        return pruned

    def result_path(self, sequence: int) -> Path:
        """Path of the figures of a trained record."""
        return self.folder / f"{sequence:08d}.out"

    def attempt_path(self, sequence: int, attempt: int) -> Path:
        """The mark of an attempt to train a record, there while it lasts; the first attempt is 1."""
        return self.folder / f"{sequence:08d}.attempt.{attempt}"

    def _path(self, sequence: int) -> Path:
        return self.folder / f"{sequence:08d}.rec"

    def _epoch_path(self, epoch: int) -> Path:
        return self.folder / f"epoch.{epoch}"

"""Turns scored groups into batches and drops. Here is the one staleness gate, and duplicates of a number fall out here.

Pure state, no I/O: `BatchWait` feeds it entries of the `scored` stream and asks for a batch. A group's staleness at
step s is s minus the step of its oldest token's version, never below 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from services.learner.batches.staleness import is_too_stale
from services.trajectories.codec import MalformedMessage, oldest_step, read_ints
from services.trajectories.entries import Entry
from services.trajectories.outcomes import DropReason
from services.trajectories.reading import read_group
from sspo_proto.trajectory_pb2 import Group


@dataclass(frozen=True)
class ScoredGroup:
    """A group that may be trained."""

    number: int
    step: int
    """Step of its oldest token's version."""
    payload: bytes
    group: Group
    entry_id: str


@dataclass
class Batch:
    """Content of one journal record: groups to train and numbers to drop. Either may be empty."""

    groups: list[ScoredGroup] = field(default_factory=list)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    entry_ids: list[str] = field(default_factory=list)
    """Stream entries that are settled by this record, duplicates included."""


class FinishedNumbers:
    """A set of numbers, dense from 0 on: all numbers below a mark, and the few above it that were finished early."""

    def __init__(self) -> None:
        self._below = 0
        self._above: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number < self._below or number in self._above

    def add(self, number: int) -> None:
        """Count a number in; twice is once."""
        if number >= self._below:
            self._above.add(number)
        while self._below in self._above:
            self._above.remove(self._below)
            self._below += 1


class Assembler:
    """Collects scored groups until a batch is complete."""

    def __init__(
        self,
        job_id: str,
        batch_size: int,
        max_staleness: int,
        *,
        drop_uninformative: bool = False,
        vocab_size: int = 0,
    ) -> None:
        """`vocab_size` 0: token ids are not checked against it."""
        self._job_id = job_id
        self._batch_size = batch_size
        self._max_staleness = max_staleness
        self._drop_uninformative = drop_uninformative
        self._vocab_size = vocab_size
        self._finished = FinishedNumbers()
        self._waiting: dict[int, ScoredGroup] = {}
        self._dropped: dict[str, list[int]] = {}
        self._settled: list[str] = []
        self._undone: Sequence[range] = ()

    def __len__(self) -> int:
        return len(self._waiting)

    def finish(self, numbers: Iterable[int]) -> None:
        """Take numbers that were trained or dropped before: groups that carry them are duplicates."""
        for number in numbers:
            self._finished.add(number)

    def undo(self, versions: Sequence[range]) -> None:
        """Take policy versions of lineages that were rolled back: groups sampled under them are dropped as
        `rolled_back`."""
        self._undone = versions

    def feed(self, entry: Entry, bury: Callable[[Entry, str], bool] = lambda entry, why: True) -> None:
        """Take one entry of the stream: decode it, or note why it is dropped.

        An entry that can't be read goes to `bury` with the reason, and `bury` answers whether its number ends too. If
        not (the entry is a stranger's, or its number has another entry), the entry is gone and nothing is dropped.
        """
        try:
            group, reason = self._read(entry)
        except MalformedMessage as error:
            if bury(entry, str(error)):
                self._drop(entry.number, entry.id, DropReason.MALFORMED)
            return
        waiting = self._waiting.get(entry.number)
        if entry.number in self._finished or waiting is not None:
            if waiting is None or waiting.entry_id != entry.id:
                self._settled.append(entry.id)
        elif reason is not None:
            self._drop(entry.number, entry.id, reason)
        elif not all(trajectory.HasField("reward") for trajectory in group.trajectories):
            self._drop(entry.number, entry.id, DropReason.GRADER_FAILED)
        elif self._drop_uninformative and not _informative(group):
            self._drop(entry.number, entry.id, DropReason.FILTERED)
        else:
            scored = ScoredGroup(entry.number, oldest_step(group), entry.payload, group, entry.id)
            self._waiting[entry.number] = scored

    def _read(self, entry: Entry) -> tuple[Group, DropReason | None]:
        """The group, and why it failed before it came here, if it did. Raises MalformedMessage."""
        group = read_group(entry, self._job_id)
        if not group.HasField("failure"):
            self._check_vocabulary(group)
            return group, None
        if group.failure.reason not in set(DropReason):
            raise MalformedMessage(f"failure.reason {group.failure.reason!r} is none that we know")
        return group, DropReason(group.failure.reason)

    def _check_vocabulary(self, group: Group) -> None:
        """A token that the model does not have would end every learner that meets it. Raises MalformedMessage."""
        parts = [group.task.prompt_token_ids, *(trajectory.completion_token_ids for trajectory in group.trajectories)]
        if self._vocab_size and read_ints(b"".join(parts)).max() >= self._vocab_size:
            raise MalformedMessage(f"a token id is not below the model's {self._vocab_size}")

    def assemble(self, step: int) -> Batch:
        """The batch for `step` if it is complete, with all drops and finished entries so far; else only the drops and
        entries."""
        for group in list(self._waiting.values()):
            reason = self._reason_to_drop(group, step)
            if reason is not None:
                del self._waiting[group.number]
                self._drop(group.number, group.entry_id, reason)
        batch = Batch(dropped=self._dropped, entry_ids=self._settled)
        self._dropped, self._settled = {}, []
        if len(self._waiting) >= self._batch_size:
            oldest_first = sorted(self._waiting.values(), key=lambda group: (group.step, group.number))
            batch.groups = oldest_first[: self._batch_size]
            for group in batch.groups:
                del self._waiting[group.number]
                self._finished.add(group.number)
                batch.entry_ids.append(group.entry_id)
        return batch

    def _reason_to_drop(self, group: ScoredGroup, step: int) -> DropReason | None:
        if self._undone:
            versions = {span.version for trajectory in group.group.trajectories for span in trajectory.version_spans}
            if any(version in undone for undone in self._undone for version in versions):
                return DropReason.ROLLED_BACK
        return DropReason.STALE if is_too_stale(group.step, step, self._max_staleness) else None

    def _drop(self, number: int, entry_id: str, reason: DropReason) -> None:
        self._finished.add(number)
        self._dropped.setdefault(reason.value, []).append(number)
        self._settled.append(entry_id)


def _informative(group: Group) -> bool:
    """Whether two rewards differ: else every advantage is 0."""
    return len({trajectory.reward.value for trajectory in group.trajectories}) > 1

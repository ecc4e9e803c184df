"""Scored groups in, batches and drops out: the one staleness gate, and where duplicates of a number fall out.

Pure state, no I/O: the loop feeds it entries of the `scored` stream and asks for a batch. A group's staleness at step s
is s minus the step of its oldest token's version, never below 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from services.trajectories.codec import MalformedMessage, decode_group, oldest_step
from services.trajectories.ledger import DropReason
from services.trajectories.streams import Entry
from sspo_core import informative
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
    """What one journal record holds: groups to train and numbers to drop. Either may be empty."""

    groups: list[ScoredGroup] = field(default_factory=list)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    entry_ids: list[str] = field(default_factory=list)
    """Stream entries that are settled by this record, duplicates included."""


class Assembler:
    """Collects scored groups until a batch is complete."""

    def __init__(
        self,
        job_id: str,
        batch_size: int,
        max_staleness: int,
        finished: Iterable[int] = (),
        *,
        drop_uninformative: bool = False,
    ) -> None:
        self._job_id = job_id
        self._batch_size = batch_size
        self._max_staleness = max_staleness
        self._drop_uninformative = drop_uninformative
        self._finished = set(finished)
        self._waiting: dict[int, ScoredGroup] = {}
        self._dropped: dict[str, list[int]] = {}
        self._settled: list[str] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def steps_waiting(self) -> list[int]:
        """Oldest step of each group that waits here."""
        return [group.step for group in self._waiting.values()]

    def feed(self, entry: Entry) -> None:
        """Take one entry of the stream: decode it, or note why it is dropped."""
        if entry.number in self._finished:
            self._settled.append(entry.id)
            return
        if entry.number in self._waiting:
            if self._waiting[entry.number].entry_id != entry.id:
                self._settled.append(entry.id)
            return
        try:
            group = decode_group(entry.payload)
        except MalformedMessage:
            self._drop(entry.number, entry.id, DropReason.MALFORMED)
            return
        if group.HasField("failure"):
            self._drop(entry.number, entry.id, _known_reason(group.failure.reason))
        elif group.task.job_id != self._job_id or group.task.group_number != entry.number:
            self._drop(entry.number, entry.id, DropReason.MALFORMED)
        elif not all(trajectory.HasField("reward") for trajectory in group.trajectories):
            self._drop(entry.number, entry.id, DropReason.GRADER_FAILED)
        elif self._drop_uninformative and not _informative(group):
            self._drop(entry.number, entry.id, DropReason.FILTERED)
        else:
            scored = ScoredGroup(entry.number, oldest_step(group), entry.payload, group, entry.id)
            self._waiting[entry.number] = scored

    def assemble(self, step: int) -> Batch:
        """The batch for `step` if it is complete, with all drops and settled entries so far; else only those."""
        for group in list(self._waiting.values()):
            if step - group.step > self._max_staleness:
                del self._waiting[group.number]
                self._drop(group.number, group.entry_id, DropReason.STALE)
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

    def _drop(self, number: int, entry_id: str, reason: DropReason) -> None:
        self._finished.add(number)
        self._dropped.setdefault(reason.value, []).append(number)
        self._settled.append(entry_id)


def _informative(group: Group) -> bool:
    rewards = torch.tensor([[trajectory.reward.value for trajectory in group.trajectories]], dtype=torch.float64)
    return bool(informative(rewards).any())


def _known_reason(reason: str) -> DropReason:
    try:
        return DropReason(reason)
    except ValueError:
        return DropReason.MALFORMED

"""Decides what stays of a job on disk: the newest checkpoints and the groups after the oldest of them, within a quota.

Order of things: first make room, by removing old checkpoints down to one. Then write the new checkpoint and read it
back. Then verify the others that are retained. Only then remove older ones, and after them the groups of records that
the oldest retained checkpoint stands for. Until there are `keep_checkpoints` of them the base model counts as one, and
nothing is pruned.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog

from services.disk.files import folder_bytes, make_folder, remove_folder
from services.disk.layout import JobFolder
from services.job.spec import LearnerSpec
from services.journal.journal import Journal
from services.learner.errors import CheckpointDamaged, DiskQuota, disk_full
from services.learner.recovery import checkpoint
from services.learner.recovery.checkpoint import Snapshot

log = structlog.get_logger()

RESERVE_BYTES = 64 * 2**20
"""Space that a checkpoint leaves free: journal and weights have to go on."""


def to_remove(
    sizes: Sequence[int], *, needed: int, used: int, quota: int | None, free: int, reserve: int = RESERVE_BYTES
) -> int:
    """How many of the oldest checkpoints must go so that another one of `needed` bytes has room.

    Args:
        sizes: of the checkpoints, oldest first, in bytes; one of them always stays.
        used: bytes of the whole job.
        quota: bytes the job may use; None: as many as there are.
        free: bytes free on the device.

    Raises DiskQuota or DiskFull when removing all but one would not do.
    """
    over_quota = used + needed - quota if quota is not None else 0
    over_disk = needed + reserve - free
    removed = freed = 0
    while freed < max(over_quota, over_disk):
        if removed >= len(sizes) - 1:
            if freed < over_quota:
                raise DiskQuota(
                    f"a checkpoint takes {needed} bytes and the job uses {used - freed} without its older ones: more "
                    f"than learner.disk_quota_bytes = {quota}; a new job needs a larger one"
                )
            raise disk_full(f"a checkpoint takes {needed} bytes, {free + freed} are free, {reserve} stay in reserve")
        freed += sizes[removed]
        removed += 1
    return removed


class Retention:
    """Writes checkpoints of one job, and removes files that they make unnecessary. Used by one thread at a time."""

    def __init__(self, folder: JobFolder, journal: Journal, spec: LearnerSpec) -> None:
        self._folder = folder
        self._journal = journal
        self._keep = spec.keep_checkpoints
        self._quota = spec.disk_quota_bytes
        self._verified: dict[str, int] = {}
        self._squeezed = False

    def save(self, snapshot: Snapshot, protected: Collection[int] = ()) -> Path:
        """Write one checkpoint and apply retention. Raises DiskQuota, DiskFull, Fenced, OSError, CheckpointDamaged.

        `protected` are steps. Of the checkpoints with these steps the newest is kept, in addition to the
        `keep_checkpoints` newest ones.
        """
        self._journal.check_epoch()
        if not checkpoint.folder_of(self._folder.checkpoints, snapshot.state.next_step).exists():
            self._make_room(snapshot.capture.bytes)
        path = checkpoint.save(self._folder.checkpoints, snapshot)
        self._verified[path.name] = checkpoint.verify(path).sequence
        self._journal.check_epoch()  # what a newer learner may need is not ours to remove
        self._retain(protected)
        return path

    def _make_room(self, needed: int) -> None:
        paths = checkpoint.stored(self._folder.checkpoints)
        make_folder(self._folder.root)
        count = to_remove(
            [folder_bytes(path) for path in paths],
            needed=needed,
            used=0 if self._quota is None else folder_bytes(self._folder.root),
            quota=self._quota,
            free=shutil.disk_usage(self._folder.root).free,
        )
        for path in paths[:count]:
            log.warning("checkpoint_removed_for_room", path=str(path))
            remove_folder(path)
            self._squeezed = True

    def _retain(self, steps: Collection[int]) -> None:
        good: list[Path] = []
        there = {checkpoint.step_of(path) for path in checkpoint.stored(self._folder.checkpoints)}
        protected = max(there & set(steps), default=None)
        for path in reversed(checkpoint.stored(self._folder.checkpoints)):
            if len(good) >= self._keep and checkpoint.step_of(path) != protected:
                remove_folder(path)
            elif self._is_good(path):
                good.append(path)
        if len(good) >= self._keep or self._squeezed:
            self._journal.prune(below=self._verified[good[-1].name] + 1)

    def _is_good(self, path: Path) -> bool:
        if path.name not in self._verified:
            try:
                self._verified[path.name] = checkpoint.verify(path).sequence
            except CheckpointDamaged as error:
                checkpoint.set_aside(path, error)
                return False
        return True

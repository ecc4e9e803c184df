"""Writes checkpoints beside the training: a step waits for one only when the next is already due.

The training thread hands over copies in host memory; one writing thread at a time serialises, syncs and renames. An
error there is raised in the training thread, at its next `poll`, `submit` or `wait`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path

from services.disk.files import FULL
from services.learner.errors import CheckpointFailed, CheckpointStalled, disk_full
from services.learner.recovery.checkpoint import Snapshot


class CheckpointWriter:
    """One checkpoint at a time.

    Args:
        save: writes a snapshot durably and answers where, with the steps of checkpoints that have to stay; runs in the
            writer's thread.
        saved: told of each path once it is durable; runs in the thread that polls.
        deadline_seconds: how long a checkpoint may take when the next is due.
    """

    def __init__(
        self,
        save: Callable[[Snapshot, Collection[int]], Path],
        saved: Callable[[Path], None],
        deadline_seconds: float,
    ) -> None:
        self._save = save
        self._saved = saved
        self._deadline_seconds = deadline_seconds
        self._running: Future[Path] | None = None

    def submit(self, snapshot: Snapshot, protected: Collection[int] = ()) -> None:
        """Begin to write, once the checkpoint before is written. Raises its error, or CheckpointStalled."""
        self.wait()
        running: Future[Path] = Future()
        threading.Thread(
            target=self._write, args=(snapshot, protected, running), daemon=True, name="checkpoint"
        ).start()
        self._running = running

    def poll(self) -> None:
        """Look whether the checkpoint that was being written is durable.

        Raises CheckpointFailed, DiskFull, DiskQuota, Fenced.
        """
        running = self._running
        if running is None or not running.done():
            return
        self._running = None
        try:
            path = running.result()
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(f"no space for a checkpoint: {error}") from error
            raise CheckpointFailed(f"a checkpoint could not be written: {error}") from error
        self._saved(path)

    def wait(self) -> None:
        """Poll once nothing is being written any more. Raises as `poll` does, and CheckpointStalled."""
        if self._running is not None:
            wait_for([self._running], timeout=self._deadline_seconds)
            if not self._running.done():
                raise CheckpointStalled(
                    f"a checkpoint was not written within {self._deadline_seconds:.0f} s (learner.wait_seconds): "
                    "the disk is too slow for learner.checkpoint_every, or hangs"
                )
        self.poll()

    def close(self, seconds: float) -> None:
        """Give a checkpoint that is being written some time to end. For a learner that already ends with an error."""
        if self._running is not None:
            wait_for([self._running], timeout=seconds)

    def _write(self, snapshot: Snapshot, protected: Collection[int], running: Future[Path]) -> None:
        try:
            running.set_result(self._save(snapshot, protected))
        except BaseException as error:  # noqa: BLE001 — the thread's boundary: `poll` raises it
            running.set_exception(error)

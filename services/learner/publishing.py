"""Publishing of weights: a version folder with its canary on disk, then its name in Redis.

`policy_version` only grows: a new one is above every version that Redis, the weight store or the journal know of. A
learner asks the disk before it publishes. If a newer learner has replaced it, it publishes nothing, whatever Redis
remembers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.faults import fault
from services.journal.journal import Journal
from services.learner.backend import Backend
from services.trajectories.progress import Progress
from services.weights.file_store import collect_garbage, versions

KEEP_VERSIONS = 4


@dataclass(frozen=True)
class _Published:
    path: Path
    step: int


class Publisher:
    """The versions of one job, as one learner publishes them."""

    def __init__(self, job_id: str, progress: Progress, folder: Path, journal: Journal, backend: Backend) -> None:
        self._job_id = job_id
        self._progress = progress
        self._folder = folder
        self._journal = journal
        self._backend = backend
        self._newest: _Published | None = None
        self._version = 0

    @property
    def version(self) -> int:
        """Highest version known; 0 before the first."""
        return self._version

    def go_on_from(self, version: int) -> None:
        """Note that versions up to this one have been used."""
        self._version = max(self._version, version)

    def publish(self, step: int) -> None:
        """Publish the backend's weights as those after `step` steps. Raises Fenced, OutOfMemory."""
        fault("learner.before_publish")
        self._journal.check_epoch()
        stored = max(versions(self._folder), default=0)
        known = self._progress.read(self._job_id).policy_version
        self._version = max(self._version, stored, known) + 1
        self._newest = _Published(self._backend.publish(self._folder, version=self._version, step=step), step)
        fault("learner.during_publish")
        self.name()
        fault("learner.after_publish")
        collect_garbage(self._folder, keep=KEEP_VERSIONS)

    def name(self) -> None:
        """Tell Redis where the newest weights are; repeating it changes nothing. Raises Fenced."""
        if self._newest is None:
            return
        self._journal.check_epoch()
        self._progress.publish(
            self._job_id,
            epoch=self._journal.epoch,
            version=self._version,
            step=self._newest.step,
            path=str(self._newest.path),
        )

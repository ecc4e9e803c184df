"""Paths of everything on disk. Only this module knows the shape of the data folder.

    DIR/VERSION            schema version of this shape, JSON
    DIR/api-key            bearer key (mode 0600)
    DIR/models/NAME/       registered models, plain Hugging Face folders
    DIR/files/FILE_ID      uploaded and result files, raw bytes
    DIR/jobs/JOB_ID/       journal/ checkpoints/ weights/ export/ spec.json gate.json *.jsonl
    DIR/logs/              one log per process
    DIR/redis/             the embedded Redis' append-only file

In a cluster DIR is shared storage that API, controller and actors see under the same path (`SSPO_DATA`).
Unix sockets and Ray's session have a path limit of about 100 bytes, so they lie in a short runtime folder instead.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)?")


class UnknownModel(ValueError):
    """A model name that is not registered under DIR/models."""


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job."""

    root: Path

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def export(self) -> Path:
        return self.root / "export"

    @property
    def steps(self) -> Path:
        """The step records, one JSON line each."""
        return self.root / "steps.jsonl"

    @property
    def samples(self) -> Path:
        """Trajectories to look at, one group a line."""
        return self.root / "samples.jsonl"

    @property
    def gate(self) -> Path:
        """The curve of the job's gate."""
        return self.root / "gate.json"

    @property
    def tensorboard(self) -> Path:
        """Event files, for jobs that ask for them."""
        return self.root / "tensorboard"

    @property
    def wandb(self) -> Path:
        """Runs for Weights & Biases, for jobs that ask for them."""
        return self.root / "wandb"

    @property
    def spec(self) -> Path:
        """The job as its learner took it, for readers of the journal who have no Redis."""
        return self.root / "spec.json"


@dataclass(frozen=True)
class Layout:
    """The data folder."""

    root: Path

    @property
    def api_key(self) -> Path:
        return self.root / "api-key"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def version(self) -> Path:
        """The version of the folder's shape; `services.disk.folder_version` reads and writes it."""
        return self.root / "VERSION"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def state(self) -> Path:
        """The record that `sspo up` keeps of its children: pids, command lines, URLs."""
        return self.root / "up.json"

    @property
    def runtime(self) -> Path:
        """Short-pathed folder for sockets and Ray's session, one per data folder (mode 0700)."""
        digest = hashlib.sha256(str(self.root.resolve()).encode()).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"sspo-{digest}"

    def job(self, job_id: str) -> JobFolder:
        return JobFolder(self.jobs / job_id)

    def model(self, name: str) -> Path:
        """Folder of the registered model `name` ("a" or "org/a"). Raises UnknownModel; never leaves DIR/models."""
        folder = self.models / name
        if not _MODEL_NAME.fullmatch(name) or not (folder / "config.json").is_file():
            raise UnknownModel(f"model {name!r} is not registered here; registered: {self.model_names()}")
        return folder

    def model_names(self) -> list[str]:
        """Registered model names, sorted."""
        found = [*self.models.glob("*/config.json"), *self.models.glob("*/*/config.json")]
        names = (str(path.parent.relative_to(self.models)) for path in found)
        return sorted(name for name in names if _MODEL_NAME.fullmatch(name))

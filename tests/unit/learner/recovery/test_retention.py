"""What stays on disk: arithmetic of quota and space; records behind the oldest retained checkpoint that verifies."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from services.disk.layout import JobFolder
from services.job.spec import LearnerSpec
from services.journal.journal import Draft, Journal
from services.journal.record import read_head
from services.learner.backend import TrainingState
from services.learner.errors import DiskFull, DiskQuota
from services.learner.model import snapshot as tensors_of
from services.learner.recovery import checkpoint
from services.learner.recovery.checkpoint import Snapshot
from services.learner.recovery.retention import Retention, to_remove
from services.trajectories.outcomes import Fenced

PLENTY: dict[str, Any] = {"needed": 10, "used": 100, "quota": None, "free": 1000, "reserve": 5}


@pytest.mark.parametrize(
    ("sizes", "changed", "removed"),
    [
        ([], {}, 0),
        ([10, 10], {"quota": 110}, 0),
        ([10, 10], {"quota": 109}, 1),
        ([10, 10, 10], {"quota": 91}, 2),
        ([2, 10, 10], {"quota": 100}, 2),
        ([10, 10], {"free": 15}, 0),
        ([10, 10], {"free": 14}, 1),
        ([10, 10, 10], {"free": 14, "quota": 95}, 2),
    ],
)
def test_older_checkpoints_make_room(sizes: list[int], changed: dict[str, int], removed: int) -> None:
    assert to_remove(sizes, **{**PLENTY, **changed}) == removed


@pytest.mark.parametrize("sizes", [[], [10], [10, 10]])
def test_the_last_checkpoint_is_never_removed_for_room(sizes: list[int]) -> None:
    with pytest.raises(DiskQuota, match=r"10 bytes .* learner.disk_quota_bytes = 20"):
        to_remove(sizes, **{**PLENTY, "quota": 20})
    with pytest.raises(DiskFull, match=r"10 bytes, .* 5 stay in reserve; make space there .*, then resume"):
        to_remove(sizes, **{**PLENTY, "free": 4})


class Job:
    """A journal and its retention, without training."""

    def __init__(self, root: Path, **learner: Any) -> None:
        self.folder = JobFolder(root)
        self.journal = Journal(self.folder.journal)
        self.journal.claim_epoch()
        self.retention = Retention(self.folder, self.journal, LearnerSpec(**learner))
        self.steps = 0

    def train(self, steps: int) -> None:
        for _ in range(steps):
            draft = Draft(kind="step", step=self.steps, cursor=self.steps + 1, groups=[(self.steps, b"group" * 50)])
            self.journal.commit(draft)
            self.steps += 1

    def save(self, protected: tuple[int, ...] = ()) -> Path:
        state = TrainingState(next_step=self.steps)
        tensors = tensors_of.HostCopy({"weight": torch.ones(1000)}, {})
        return self.retention.save(Snapshot(tensors, state, sequence=self.steps - 1), protected)

    def checkpoints(self) -> list[int]:
        return [checkpoint.step_of(path) for path in checkpoint.stored(self.folder.checkpoints)]

    def with_groups(self) -> list[int]:
        paths = sorted(self.folder.journal.glob("*.rec"))
        return [sequence for sequence, path in enumerate(paths) if read_head(path)[1]]


def test_groups_live_as_long_as_the_oldest_retained_checkpoint(tmp_path: Path) -> None:
    job = Job(tmp_path, keep_checkpoints=2)
    job.train(2)
    job.save()
    assert (job.checkpoints(), job.with_groups()) == ([2], [0, 1]), "the base model is the other one retained"
    job.train(2)
    job.save()
    assert (job.checkpoints(), job.with_groups()) == ([2, 4], [2, 3])
    job.train(2)
    job.save()
    assert (job.checkpoints(), job.with_groups()) == ([4, 6], [4, 5])
    assert len(list(job.journal.headers())) == 6


def test_nothing_is_pruned_for_a_checkpoint_that_does_not_verify(tmp_path: Path) -> None:
    job = Job(tmp_path, keep_checkpoints=2)
    for _ in range(2):
        job.train(1)
        path = job.save()
    (path / tensors_of.MODEL).write_bytes(b"damaged")
    again = Job(tmp_path, keep_checkpoints=2)  # another process: what it has not seen itself is read
    again.steps = job.steps
    list(again.journal.headers())
    again.train(1)
    again.save()
    assert again.checkpoints() == [1, 3], "an older one that verifies stays for it"
    assert again.with_groups() == [1, 2]


def test_a_quota_takes_older_checkpoints_first_and_then_fails_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path, keep_checkpoints=3, disk_quota_bytes=12_000)
    for _ in range(4):
        job.train(1)
        job.save()
    assert job.checkpoints() == [3, 4]
    assert job.with_groups() == [3], "the older ones are gone, so their records are not needed"
    (tmp_path / "weights").write_bytes(b"x" * 9_000)
    with pytest.raises(DiskQuota):
        job.train(1)
        job.save()
    assert job.checkpoints() == [3, 4]


def test_a_full_disk_is_noticed_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path)
    job.train(1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(DiskFull):
        job.save()
    assert list(tmp_path.glob("checkpoints/.*")) == []


def test_a_fenced_learner_writes_and_removes_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path, keep_checkpoints=1)
    job.train(1)
    job.save()
    job.train(1)
    Journal(job.folder.journal).claim_epoch()
    with pytest.raises(Fenced):
        job.save()
    assert (job.checkpoints(), job.with_groups()) == ([1], [1])


def test_a_protected_checkpoint_stays_beside_the_newest_ones_with_the_records_behind_it(tmp_path: Path) -> None:
    job = Job(tmp_path, keep_checkpoints=1)
    for protected in ((), (2,), (2, 4), (4, 99)):
        job.train(2)
        job.save(protected)
    assert (job.checkpoints(), job.with_groups()) == ([4, 8], [4, 5, 6, 7]), "what leads on from it can be replayed"

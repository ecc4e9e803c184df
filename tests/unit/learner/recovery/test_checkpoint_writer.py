"""Writing beside the training: a step does not wait, a second checkpoint does, errors arrive typed."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch

from services.learner.backend import TrainingState
from services.learner.errors import CheckpointFailed, CheckpointStalled, DiskFull, DiskQuota
from services.learner.model import snapshot as tensors_of
from services.learner.model.snapshot import host_copy
from services.learner.recovery.checkpoint import Snapshot
from services.learner.recovery.checkpoint_writer import CheckpointWriter


def snapshot(step: int) -> Snapshot:
    return Snapshot(tensors_of.HostCopy({}, {}), TrainingState(next_step=step))


class SlowDisk:
    """Saves when it is told to."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.saved: list[Path] = []

    def save(self, found: Snapshot, protected: Collection[int]) -> Path:
        assert self.may_end.wait(10)
        return Path(f"step-{found.state.next_step}")


def test_a_step_does_not_wait_for_a_slow_disk_and_the_record_comes_after_the_rename() -> None:
    disk = SlowDisk()
    writer = CheckpointWriter(disk.save, disk.saved.append, deadline_seconds=10)
    before = time.monotonic()
    writer.submit(snapshot(2))
    writer.poll()
    assert time.monotonic() - before < 1.0 and disk.saved == []
    disk.may_end.set()
    writer.wait()
    assert disk.saved == [Path("step-2")]


def test_a_second_checkpoint_waits_for_the_first() -> None:
    disk = SlowDisk()
    writer = CheckpointWriter(disk.save, disk.saved.append, deadline_seconds=10)
    writer.submit(snapshot(2))
    threading.Timer(0.2, disk.may_end.set).start()
    writer.submit(snapshot(4))
    assert disk.saved == [Path("step-2")]
    writer.wait()
    assert disk.saved == [Path("step-2"), Path("step-4")]


def test_a_disk_that_hangs_is_a_typed_error() -> None:
    disk = SlowDisk()
    writer = CheckpointWriter(disk.save, disk.saved.append, deadline_seconds=0.1)
    writer.submit(snapshot(2))
    with pytest.raises(CheckpointStalled, match=r"within 0 s \(learner.wait_seconds\)"):
        writer.submit(snapshot(4))
    disk.may_end.set()


@pytest.mark.parametrize("when", [CheckpointWriter.poll, CheckpointWriter.wait])
@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull, "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DiskFull, "disk_full"),
        (OSError(errno.EIO, "Input/output error"), CheckpointFailed, "checkpoint_failed"),
        (DiskQuota("too much"), DiskQuota, "disk_quota"),
    ],
)
def test_what_goes_wrong_is_raised_at_the_next_look(
    error: Exception, expected: type[Exception], code: str, when: Callable[[CheckpointWriter], None]
) -> None:
    def fail(found: Snapshot, protected: Collection[int]) -> Path:
        raise error

    saved: list[Path] = []
    writer = CheckpointWriter(fail, saved.append, deadline_seconds=10)
    writer.submit(snapshot(2))
    writer.close(10)
    with pytest.raises(expected) as caught:
        when(writer)
    assert caught.value.code == code and saved == []  # type: ignore[attr-defined]
    writer.wait()  # it is raised once


def test_a_snapshot_does_not_change_when_training_goes_on() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    copied = host_copy({"weight": weight})
    with torch.no_grad():
        weight += 1
    assert copied["weight"].tolist() == [1, 1, 1] and not copied["weight"].requires_grad

"""What a learner leaves to be looked at: one gate, and the newest groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.disk.layout import JobFolder
from services.records.samples import GateCurve, SampledGroup
from services.store.job import samples as looks
from services.store.job.samples import SampleFile, gate_of, samples_of, write_gate


def sample(step: int) -> SampledGroup:
    return SampledGroup(step=step, group_number=step, prompt="?", trajectories=())


def test_a_gate_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    assert gate_of(folder) is None
    for log_ratio in ((0.0, 1.0), (0.5,)):
        curve = GateCurve(objective="sspo", log_ratio=log_ratio)
        write_gate(folder, curve)
        assert gate_of(folder) == curve


def test_the_newest_groups_stay_also_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "KEPT", 3)
    folder = JobFolder(tmp_path)
    assert samples_of(folder, 9) == []
    for step in range(10):
        SampleFile(folder.samples).add(sample(step))
        assert len(samples_of(folder, 99)) < 6
        assert samples_of(folder, 99)[-3:] == [sample(number) for number in range(max(0, step - 2), step + 1)]
    assert samples_of(folder, 2) == [sample(8), sample(9)]

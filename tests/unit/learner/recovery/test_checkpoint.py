"""Checkpoints: whole or not at all, proven by hashes; the newest that verifies and counts is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from services.learner.backend import TrainingState
from services.learner.errors import CheckpointDamaged
from services.learner.model import snapshot as tensors_of
from services.learner.recovery import checkpoint
from services.learner.recovery.checkpoint import Snapshot, Stored


def snapshot(step: int, sequence: int | None = None, value: float = 0.0) -> Snapshot:
    return Snapshot(
        tensors_of.HostCopy(
            model={"weight": torch.full((4, 8), value + step)},
            optimiser={"0.step": torch.tensor(float(step)), "0.exp_avg": torch.full((4, 8), 0.5)},
        ),
        state=TrainingState(next_step=step, updates=step, trained_tokens=10 * step),
        sequence=step - 1 if sequence is None else sequence,
    )


def every(found: Stored) -> bool:
    return True


def tensors(path: Path) -> tensors_of.HostCopy:
    return tensors_of.read(path, checkpoint.look(path).hashes)


def load(found: Stored) -> None:
    """What a backend does: all is read before anything is taken over."""
    tensors_of.read(found.path, found.hashes)


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "checkpoints"
    path = checkpoint.save(folder, snapshot(10))
    assert path == folder / "step-00000010"
    found = checkpoint.verify(path)
    assert found.state == TrainingState(10, 10, 0, 100) and found.sequence == 9
    assert torch.equal(tensors(path).model["weight"], torch.full((4, 8), 10.0))
    assert tensors(path).optimiser["0.step"].shape == torch.Size([])
    assert [item.name for item in folder.iterdir()] == ["step-00000010"]


def test_a_checkpoint_without_a_step_may_be_saved(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, Snapshot(tensors_of.HostCopy({"weight": torch.ones(2)}, {}), TrainingState()))
    assert tensors(path).optimiser == {}


def test_one_that_is_there_stays_unless_it_is_of_another_lineage(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, snapshot(2, sequence=1))
    path = checkpoint.save(tmp_path, snapshot(2, sequence=1, value=1.0))
    assert tensors(path).model["weight"][0, 0] == 2.0
    checkpoint.save(tmp_path, snapshot(2, sequence=7, value=1.0))
    assert tensors(path).model["weight"][0, 0] == 3.0


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors", "state.json", "checkpoint.json"])
@pytest.mark.parametrize("damage", [_flip, _truncate, Path.unlink])
def test_every_damage_is_found_and_the_older_one_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    for step in (2, 4):
        path = checkpoint.save(tmp_path, snapshot(step))
    damage(path / name)
    with pytest.raises(CheckpointDamaged, match="step-00000004"):
        checkpoint.verify(path)
    found = checkpoint.load_newest(tmp_path, every, load)
    assert found is not None and found.state.next_step == 2
    assert sorted(item.name for item in tmp_path.iterdir()) == ["step-00000002", "step-00000004.damaged"]


def test_a_look_without_tidying_changes_nothing(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        path = checkpoint.save(tmp_path, snapshot(step))
    _flip(path / "model.safetensors")
    before = sorted(tmp_path.iterdir())
    found = checkpoint.load_newest(tmp_path, lambda found: found.state.next_step < 4, load, tidy=False)
    assert found is not None and found.state.next_step == 2
    assert sorted(tmp_path.iterdir()) == before


def test_undone_ones_are_removed(tmp_path: Path) -> None:
    for step in (2, 4):
        checkpoint.save(tmp_path, snapshot(step))
    found = checkpoint.load_newest(tmp_path, lambda found: found.state.next_step < 4, load)
    assert found is not None and found.state.next_step == 2
    assert [item.name for item in tmp_path.iterdir()] == ["step-00000002"]
    assert checkpoint.load_newest(tmp_path, lambda found: False, load) is None


def test_after_a_rollback_what_it_undid_is_removed_and_what_is_damaged_set_aside(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        path = checkpoint.save(tmp_path, snapshot(step))
    _flip(path / "checkpoint.json")
    checkpoint.remove_undone(tmp_path, lambda found: found.state.next_step < 4)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["step-00000002", "step-00000006.damaged"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors"])
def test_a_backend_refuses_tensors_that_fail_their_hash(tmp_path: Path, name: str) -> None:
    path = checkpoint.save(tmp_path, snapshot(2))
    _flip(path / name)
    with pytest.raises(CheckpointDamaged, match="step-00000002"):
        load(checkpoint.look(path))

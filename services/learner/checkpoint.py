"""What a restarted learner begins from: weights, optimiser and counters, proven by hashes.

A checkpoint is a folder `checkpoints/step-00000010/` that appears by rename, whole. It holds safetensors and JSON only.
The newest one that verifies is used; a damaged one is set aside as `.damaged` and named in the log, and the records of
the journal behind the one used are replayed.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.files import fsync_file, fsync_folder, sha256
from services.learner.errors import CheckpointDamaged

log = structlog.get_logger()

MODEL, OPTIMISER, STATE, MANIFEST = "model.safetensors", "optimiser.safetensors", "state.json", "checkpoint.json"
KEEP = 3


@dataclass(frozen=True)
class TrainingState:
    """Counters that belong to the weights."""

    next_step: int = 0
    updates: int = 0
    skipped_updates: int = 0
    trained_tokens: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    path: Path
    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    state: TrainingState


def save(folder: Path, model: dict[str, Tensor], optimiser: dict[str, Tensor], state: TrainingState) -> Path:
    """Write, fsync and rename one checkpoint; forget all but the newest few. A step that is saved already stays."""
    target = folder / f"step-{state.next_step:08d}"
    if target.exists():
        return target
    temporary = folder / f".tmp-{state.next_step}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({name: tensor.contiguous().cpu() for name, tensor in model.items()}, temporary / MODEL)
    save_file({name: tensor.contiguous().cpu() for name, tensor in optimiser.items()}, temporary / OPTIMISER)
    (temporary / STATE).write_text(json.dumps(asdict(state)))
    hashes = {name: sha256(temporary / name) for name in (MODEL, OPTIMISER, STATE)}
    (temporary / MANIFEST).write_text(json.dumps({"schema_version": 1, "sha256": hashes}))
    for name in (*hashes, MANIFEST):
        fsync_file(temporary / name)
    fsync_folder(temporary)
    temporary.rename(target)
    fsync_folder(folder)
    for old in sorted(folder.glob("step-????????"))[:-KEEP]:
        shutil.rmtree(old)
    return target


def load(path: Path) -> Checkpoint:
    """Verify and read one checkpoint. Raises CheckpointDamaged."""
    try:
        hashes = json.loads((path / MANIFEST).read_text())["sha256"]
        for name in (MODEL, OPTIMISER, STATE):
            if sha256(path / name) != hashes[name]:
                raise CheckpointDamaged(f"{path.name}/{name} fails its hash")
        state = TrainingState(**json.loads((path / STATE).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"{path.name}: {error}") from error
    return Checkpoint(path, load_file(path / MODEL), load_file(path / OPTIMISER), state)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; None when there is none (training begins from the base model)."""
    for path in sorted(folder.glob("step-????????"), reverse=True):
        try:
            return load(path)
        except CheckpointDamaged as error:
            log.warning("checkpoint_damaged", path=str(path), reason=str(error))
            shutil.rmtree(path.with_suffix(".damaged"), ignore_errors=True)
            path.rename(path.with_suffix(".damaged"))
    return None

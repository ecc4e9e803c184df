"""What a restarted learner begins from: weights, optimiser and counters, proven by hashes.

A checkpoint is a folder `checkpoints/step-00000010/` that appears by rename, whole. It holds safetensors and JSON only.
The newest one that verifies, and that no later rollback has undone, is used; a damaged one is set aside as `.damaged`
and named in the log, and more of the journal is replayed. It carries nothing of the groups: the headers of the journal
stay for ever and say all of that.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from torch import Tensor

from services.disk.files import age_seconds, fsync, make_folder, move, remove_folder, sha256, write_durable
from services.faults import fault
from services.learner.errors import CheckpointDamaged
from services.weights.fingerprint import ContentMismatch, read_verified, write_hashed

log = structlog.get_logger()

MODEL, OPTIMISER, STATE, MANIFEST = "model.safetensors", "optimiser.safetensors", "state.json", "checkpoint.json"
LEFTOVER_SECONDS = 3600.0
"""Age after which what a killed learner was writing is removed."""


@dataclass(frozen=True)
class TrainingState:
    """Counters that belong to the weights."""

    next_step: int = 0
    updates: int = 0
    skipped_updates: int = 0
    trained_tokens: int = 0


@dataclass(frozen=True)
class Snapshot:
    """All of a checkpoint, in host memory."""

    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    state: TrainingState
    sequence: int = -1
    """Record of the journal that was trained last; -1: none, or a checkpoint that does not say."""

    @property
    def bytes(self) -> int:
        """What it takes on disk, but for a few kilobytes."""
        return sum(tensor.nbytes for tensor in (*self.model.values(), *self.optimiser.values()))


def host_copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies in host memory, which training does not touch any more."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def folder_of(folder: Path, step: int) -> Path:
    """Where the checkpoint with `step` steps lies."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """How many steps a checkpoint's folder is named after."""
    return int(path.name.removeprefix("step-"))


def stored(folder: Path) -> list[Path]:
    """All checkpoints, oldest first."""
    return sorted(folder.glob("step-????????"))


def save(folder: Path, snapshot: Snapshot) -> Path:
    """Write, fsync and rename one checkpoint. One that is there already stays, unless it is of another lineage."""
    target = folder_of(folder, snapshot.state.next_step)
    if target.exists():
        if _is_same(target, snapshot):
            return target
        remove_folder(target)
    temporary = folder / f".tmp-{snapshot.state.next_step}-{snapshot.sequence}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(folder)
    temporary.mkdir()
    try:
        state = json.dumps({**asdict(snapshot.state), "sequence": snapshot.sequence}).encode()
        write_durable(temporary / STATE, state)
        hashes = {
            MODEL: write_hashed(temporary / MODEL, snapshot.model, None)[0],
            OPTIMISER: write_hashed(temporary / OPTIMISER, snapshot.optimiser, None)[0],
            STATE: sha256(temporary / STATE),
        }
        write_durable(temporary / MANIFEST, json.dumps({"schema_version": 1, "sha256": hashes}).encode())
        fsync(temporary)
        fault("checkpoint.before_rename")
        move(temporary, target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def load(path: Path) -> Snapshot:
    """Verify and read one checkpoint. Raises CheckpointDamaged."""
    try:
        hashes = _hashes(path)
        state, sequence = _state(path, hashes[STATE])
        model = read_verified(path / MODEL, hashes[MODEL])
        # Copies: training goes on writing into the optimiser's tensors, and the file must not stay mapped for that.
        optimiser = {
            name: tensor.clone() for name, tensor in read_verified(path / OPTIMISER, hashes[OPTIMISER]).items()
        }
    except (OSError, ValueError, KeyError, TypeError, ContentMismatch) as error:
        raise CheckpointDamaged(f"{path.name}: {error}") from error
    return Snapshot(model, optimiser, state, sequence)


def verify(path: Path) -> int:
    """Read one checkpoint through and compare hashes; returns its `sequence`. Raises CheckpointDamaged."""
    try:
        hashes = _hashes(path)
        _, sequence = _state(path, hashes[STATE])
        for name in (MODEL, OPTIMISER):
            read_verified(path / name, hashes[name])
    except (OSError, ValueError, KeyError, TypeError, ContentMismatch) as error:
        raise CheckpointDamaged(f"{path.name}: {error}") from error
    return sequence


def set_aside(path: Path, error: CheckpointDamaged) -> None:
    """Keep a damaged checkpoint for people, where nobody takes it for one."""
    log.warning("checkpoint_damaged", path=str(path), reason=str(error))
    damaged = path.with_suffix(".damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    move(path, damaged)


def newest(folder: Path, counts: Callable[[Snapshot], bool], *, tidy: bool = True) -> Snapshot | None:
    """The newest checkpoint that verifies and counts; None when there is none: training begins from the base model.

    `tidy`: damaged ones are set aside, and those that don't count any more are removed, so that a new one of the same
    step can take their place.
    """
    if tidy:
        _remove_leftovers(folder)
    for path in reversed(stored(folder)):
        try:
            found = load(path)
        except CheckpointDamaged as error:
            if tidy:
                set_aside(path, error)
            continue
        if counts(found):
            return found
        if tidy:
            log.info("checkpoint_undone", path=str(path))
            remove_folder(path)
    return None


def _hashes(path: Path) -> dict[str, str]:
    hashes: dict[str, str] = json.loads((path / MANIFEST).read_text())["sha256"]
    return hashes


def _state(path: Path, digest: str) -> tuple[TrainingState, int]:
    if sha256(path / STATE) != digest:
        raise CheckpointDamaged(f"{path.name}/{STATE} fails its hash")
    fields = json.loads((path / STATE).read_text())
    sequence = fields.pop("sequence", -1)
    return TrainingState(**fields), sequence


def _is_same(path: Path, snapshot: Snapshot) -> bool:
    try:
        return verify(path) in (snapshot.sequence, -1)
    except CheckpointDamaged:
        return False


def _remove_leftovers(folder: Path) -> None:
    for pattern in (".tmp-*", ".trash-*"):
        for path in folder.glob(pattern):
            if age_seconds(path) > LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

"""Checkpoints, from which a restarted learner begins: weights, optimiser and counters, proven by hashes.

A checkpoint is a folder `checkpoints/step-00000010/` that appears by rename, whole. The backend writes its tensors;
counters, hashes and the folder's life are here. A learner uses the newest one that verifies and that no later rollback
has undone. A damaged one is set aside as `.damaged` and named in the log; then more of the journal is replayed. A
checkpoint says nothing of groups: the headers of the journal do, and stay for ever.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from services.disk.files import fsync, make_folder, move, remove_folder, remove_leftovers, sha256, write_durable
from services.faults import fault
from services.learner.backend import Capture, TrainingState
from services.learner.errors import CheckpointDamaged

log = structlog.get_logger()

STATE, MANIFEST = "state.json", "checkpoint.json"


@dataclass(frozen=True)
class Snapshot:
    """All of a checkpoint, before it is written."""

    capture: Capture
    state: TrainingState
    sequence: int = -1
    """Record of the journal that was trained last; -1: none."""


@dataclass(frozen=True)
class Stored:
    """A checkpoint on disk, by its counters; `hashes` (file → sha256) prove the rest."""

    path: Path
    state: TrainingState
    sequence: int
    """Record of the journal that was trained last; -1: none, or a checkpoint that does not say."""
    hashes: Mapping[str, str]


def folder_of(folder: Path, step: int) -> Path:
    """Where the checkpoint with `step` steps lies."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The number of steps in the name of a checkpoint's folder."""
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
        hashes = snapshot.capture.write(temporary)
        write_durable(temporary / STATE, state)
        hashes = {**hashes, STATE: sha256(temporary / STATE)}
        write_durable(temporary / MANIFEST, json.dumps({"schema_version": 1, "sha256": hashes}).encode())
        fsync(temporary)
        fault("checkpoint.before_rename")
        move(temporary, target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def look(path: Path) -> Stored:
    """The counters of one checkpoint, verified; its tensors are not read. Raises CheckpointDamaged."""
    try:
        hashes: dict[str, str] = json.loads((path / MANIFEST).read_text())["sha256"]
        if sha256(path / STATE) != hashes[STATE]:
            raise CheckpointDamaged(f"{path.name}/{STATE} fails its hash")
        fields = json.loads((path / STATE).read_text())
        sequence = int(fields.pop("sequence", -1))
        return Stored(path, TrainingState(**fields), sequence, hashes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"{path.name}: {error}") from error


def verify(path: Path) -> Stored:
    """Read one checkpoint through and compare hashes. Raises CheckpointDamaged."""
    found = look(path)
    try:
        for name, digest in found.hashes.items():
            if sha256(path / name) != digest:
                raise CheckpointDamaged(f"{path.name}/{name} fails its hash")
    except OSError as error:
        raise CheckpointDamaged(f"{path.name}: {error}") from error
    return found


def is_whole(path: Path) -> bool:
    """Whether a checkpoint verifies; a damaged one is set aside, or every learner would meet it again."""
    try:
        verify(path)
    except CheckpointDamaged as error:
        set_aside(path, error)
        return False
    return True


def set_aside(path: Path, error: CheckpointDamaged) -> None:
    """Keep a damaged checkpoint for people, under a name that no learner takes for a checkpoint."""
    log.warning("checkpoint_damaged", path=str(path), reason=str(error))
    damaged = path.with_suffix(".damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    move(path, damaged)


def load_newest(
    folder: Path, counts: Callable[[Stored], bool], load: Callable[[Stored], None], *, tidy: bool = True
) -> Stored | None:
    """Load the newest checkpoint that counts and is whole; None when there is none: training begins from the base
    model.

    Args:
        load: loads one; raises CheckpointDamaged before anything has changed.
        tidy: damaged ones are set aside, and those that don't count any more are removed, so that a new one of the same
            step can take their place.
    """
    if tidy:
        remove_leftovers(folder, ".tmp-*", ".trash-*")
        remove_undone(folder, counts)
    for path in reversed(stored(folder)):
        try:
            found = look(path)
            if counts(found):
                load(found)
                return found
        except CheckpointDamaged as error:
            if tidy:
                set_aside(path, error)
    return None


def remove_undone(folder: Path, counts: Callable[[Stored], bool]) -> None:
    """Remove the checkpoints that don't count any more, so that new ones of the same steps can take their place."""
    for path in stored(folder):
        try:
            undone = not counts(look(path))
        except CheckpointDamaged as error:
            set_aside(path, error)
            continue
        if undone:
            log.info("checkpoint_undone", path=str(path))
            remove_folder(path)


def _is_same(path: Path, snapshot: Snapshot) -> bool:
    try:
        return verify(path).sequence in (snapshot.sequence, -1)
    except CheckpointDamaged:
        return False

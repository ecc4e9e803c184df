"""What was answered for survives a power cut: on a disk that forgets all that was not synced.

Each operation is also run with every one of its fsyncs left out in turn: something has to be missing then, else that
fsync, or this test, is for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from services.disk import folder_version
from services.disk.files import remove_folder, replace_folder
from services.disk.layout import Layout
from services.journal.journal import Draft, Journal
from services.learner.backend import TrainingState
from services.learner.errors import FATAL
from services.learner.model import snapshot as tensors_of
from services.learner.recovery import checkpoint
from services.learner.recovery.checkpoint import Snapshot
from services.store.client import Client
from services.store.files import Files
from services.weights.file_store import VersionGone, read_manifest, version_folder
from services.weights.fingerprint import ContentMismatch, read_verified
from services.weights.manifest import Canary
from services.weights.publish import publish
from tests.support.forgetful_disk import ForgetfulDisk

TENSORS = {"weight": torch.arange(12, dtype=torch.float32).view(3, 4)}
STEP = Draft(kind="step", step=0, cursor=2, groups=[(0, b"group 0"), (1, b"group 1")])


def journal(root: Path) -> Journal:
    return Journal(Layout(root).job("ftjob-1").journal)


def weights(root: Path) -> Path:
    return Layout(root).job("ftjob-1").weights


def checkpoints(root: Path) -> Path:
    return Layout(root).job("ftjob-1").checkpoints


def claimed(root: Path) -> Journal:
    found = journal(root)
    found.claim_epoch()
    return found


def committed(root: Path) -> Journal:
    found = claimed(root)
    found.commit(STEP)
    return found


def saved(root: Path) -> Path:
    tensors = tensors_of.HostCopy(TENSORS, {"0.step": torch.tensor(1.0)})
    snapshot = Snapshot(tensors, TrainingState(next_step=2), sequence=1)
    return checkpoint.save(checkpoints(root), snapshot)


def commit(root: Path) -> None:
    found = journal(root)
    found.epoch = 1
    found.commit(STEP)


def publish_version(root: Path) -> None:
    model = root / "models" / "m"
    canary = Canary(token_ids=(1, 2), logprobs=(-1.0,))
    publish(weights(root), TENSORS, version=1, step=0, canary=canary, model_files=model, dtype=torch.float32)


def make_model(root: Path) -> None:
    (root / "models" / "m").mkdir(parents=True)
    (root / "models" / "m" / "config.json").write_text('{"a": 1}')


def write_model(folder: Path, config: str) -> Path:
    """As a library writes one, which syncs nothing."""
    folder.mkdir()
    (folder / "config.json").write_text(config)
    return folder


def nothing(root: Path) -> None:
    """A folder as it was made."""


def version_is_whole(root: Path) -> bool:
    folder = version_folder(weights(root), 1)
    found = read_verified(folder / "model.safetensors", read_manifest(folder).content_hash)
    return (
        torch.equal(found["weight"], TENSORS["weight"]) and json.loads((folder / "config.json").read_text())["a"] == 1
    )


def record_is_whole(root: Path) -> bool:
    return [journal(root).read(header.sequence).payloads for header in journal(root).headers()] == [
        [b"group 0", b"group 1"]
    ]


def checkpoint_is_whole(root: Path) -> bool:
    found = checkpoint.verify(checkpoint.folder_of(checkpoints(root), 2))
    tensors = tensors_of.read(found.path, found.hashes)
    return torch.equal(tensors.model["weight"], TENSORS["weight"]) and found.sequence == 1


def epoch_is_claimed(root: Path) -> bool:
    return bool((Layout(root).job("ftjob-1").journal / "epoch.1").read_text())


@dataclass(frozen=True)
class Case:
    """Something that promises to be durable once it returns."""

    before: Callable[[Path], Any]
    act: Callable[[Path], Any]
    holds: Callable[[Path], bool]


CASES = {
    "claim an epoch": Case(nothing, claimed, epoch_is_claimed),
    "commit a record": Case(claimed, commit, record_is_whole),
    "prune a record": Case(
        committed, lambda root: journal(root).prune(below=1), lambda root: journal(root).is_pruned(0)
    ),
    "save a checkpoint": Case(nothing, saved, checkpoint_is_whole),
    "save a second checkpoint": Case(lambda root: checkpoints(root).mkdir(parents=True), saved, checkpoint_is_whole),
    "publish weights": Case(make_model, publish_version, version_is_whole),
    "remove a folder": Case(
        saved,
        lambda root: remove_folder(checkpoint.folder_of(checkpoints(root), 2)),
        lambda root: not checkpoint.stored(checkpoints(root)),
    ),
    "replace a folder": Case(
        lambda root: write_model(root / "model", "old"),
        lambda root: replace_folder(write_model(root / ".new", "new"), root / "model"),
        lambda root: (root / "model" / "config.json").read_text() == "new",
    ),
    "mark the folder": Case(
        nothing,
        lambda root: folder_version.write(Layout(root), 1),
        lambda root: json.loads(Layout(root).version.read_text())["schema_version"] == 1,
    ),
}
LOST = (*FATAL, FileNotFoundError, VersionGone, ContentMismatch, ValueError)


@pytest.mark.parametrize("name", CASES)
def test_it_survives_a_power_cut_and_needs_each_of_its_fsyncs(tmp_path: Path, name: str) -> None:
    case = CASES[name]

    def holds_after_cut(skip: int | None) -> tuple[bool, int]:
        root, target = tmp_path / f"disk-{skip}", tmp_path / f"cut-{skip}"
        root.mkdir()
        case.before(root)
        with ForgetfulDisk(root, skip=skip) as disk:
            case.act(root)
            disk.cut(target)
            try:
                return case.holds(target), disk.synced
            except LOST:
                return False, disk.synced

    held, synced = holds_after_cut(None)
    assert held and synced > 0
    for skip in range(synced):
        assert not holds_after_cut(skip)[0], f"fsync {skip} of {synced} is for nothing"


def test_a_cut_while_pruning_leaves_a_whole_record(tmp_path: Path) -> None:
    """The head replaces the record by a rename that is durable later: either is whole, whenever the power goes."""
    root = tmp_path / "disk"
    root.mkdir()
    found = committed(root)
    with ForgetfulDisk(root, skip=1) as disk:
        found.prune(below=1)
        cut = disk.cut(tmp_path / "cut")
    assert record_is_whole(cut), "the folder's new name was not durable yet, so the old one counts"


def test_an_uploaded_file_survives(tmp_path: Path, client: Client) -> None:
    layout = Layout(tmp_path / "disk")
    layout.root.mkdir()
    with ForgetfulDisk(layout.root) as disk:
        record = Files(client, layout).create("a.jsonl", "fine-tune", [b"one\n", b"two\n"])
        cut = disk.cut(tmp_path / "cut")
    assert (Layout(cut).files / record.id).read_bytes() == b"one\ntwo\n"

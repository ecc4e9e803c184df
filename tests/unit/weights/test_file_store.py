"""Version folders: complete, immutable, found, held and collected."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from blake3 import blake3
from safetensors.torch import load_file
from torch import Tensor

from services.weights import file_store
from services.weights.file_store import BadManifest, VersionGone, collect_garbage, held, read_manifest, versions
from services.weights.fingerprint import ContentMismatch, describe, read_verified, write_hashed
from services.weights.manifest import MANIFEST_FILE, TENSORS_FILE, Canary
from services.weights.publish import VersionExists, publish

CANARY = Canary(token_ids=(1, 2, 3), logprobs=(-0.5, -1.5))


def tensors(scale: float = 1.0) -> dict[str, Tensor]:
    return {
        "model.embed_tokens.weight": scale * torch.arange(12, dtype=torch.float32).reshape(4, 3),
        "model.norm.weight": torch.full((3,), scale),
        "model.scalar": torch.tensor(scale),
        "model.counts": torch.tensor([1, 2**40]),
    }


@pytest.fixture
def model_files(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "weights"


def publish_version(root: Path, model_files: Path, version: int, **changes: Tensor) -> Path:
    return publish(
        root,
        {**tensors(version), **changes},
        version=version,
        step=version - 1,
        canary=CANARY,
        model_files=model_files,
        dtype=torch.bfloat16,
    )


def test_a_version_is_a_complete_folder(root: Path, model_files: Path) -> None:
    folder = publish_version(root, model_files, 12)
    assert folder == root / "v00000012"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "manifest.json", "model.safetensors"]
    manifest = read_manifest(folder)
    assert (manifest.version, manifest.step, manifest.canary) == (12, 11, CANARY)
    assert manifest.content_hash == "blake3:" + blake3((folder / TENSORS_FILE).read_bytes()).hexdigest()
    loaded = load_file(folder / TENSORS_FILE)
    assert describe(loaded) == manifest.tensors
    for name, tensor in tensors(12).items():
        expected = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        assert torch.equal(loaded[name], expected), name


def test_generation_config_goes_along_when_there_is_one(root: Path, model_files: Path) -> None:
    (model_files / "generation_config.json").write_text('{"eos_token_id": 2}')
    folder = publish_version(root, model_files, 1)
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": 2}


@pytest.mark.parametrize(("head", "tied"), [({}, True), ({"lm_head.weight": torch.ones(4, 3)}, False)])
def test_the_manifest_knows_tied_embeddings(root: Path, model_files: Path, head: dict[str, Tensor], tied: bool) -> None:
    assert read_manifest(publish_version(root, model_files, 1, **head)).tied_embeddings is tied


def test_a_tied_name_is_refused(root: Path, model_files: Path) -> None:
    shared = torch.ones(4, 3)
    aliases = {"model.embed_tokens.weight": shared, "lm_head.weight": shared}
    with pytest.raises(ValueError, match=r"tensors\[lm_head.weight\]: shares its storage"):
        publish_version(root, model_files, 1, **aliases)


def test_a_version_is_never_overwritten(root: Path, model_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish_version(root, model_files, 1)
    before = (folder / TENSORS_FILE).read_bytes()
    with pytest.raises(VersionExists):
        publish_version(root, model_files, 1)
    # Another process may publish it between our look and our rename.
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(VersionExists):
        publish_version(root, model_files, 1)
    monkeypatch.undo()
    assert (folder / TENSORS_FILE).read_bytes() == before
    assert [path.name for path in root.iterdir()] == ["v00000001"]


def test_a_publisher_that_dies_leaves_no_version(
    root: Path, model_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        publish_version(root, model_files, 1)
    monkeypatch.undo()
    assert versions(root) == {}
    assert {1: publish_version(root, model_files, 1)} == versions(root)


def test_versions_are_ordered_by_number(root: Path, model_files: Path) -> None:
    for version in (9, 10, 2):
        publish_version(root, model_files, version)
    assert list(versions(root)) == [2, 9, 10]


def test_garbage_is_all_but_the_newest(root: Path, model_files: Path) -> None:
    for version in range(1, 6):
        publish_version(root, model_files, version)
    assert collect_garbage(root, keep=2) == [1, 2, 3]
    assert sorted(path.name for path in root.iterdir()) == ["v00000004", "v00000005"]
    assert collect_garbage(root, keep=2) == []
    with pytest.raises(ValueError, match="keep"):
        collect_garbage(root, keep=0)


def test_old_leftovers_go_and_new_ones_stay(root: Path, model_files: Path) -> None:
    publish_version(root, model_files, 1)
    for name, age in ((".tmp-old", 2), (".held-old", 2), (".trash-old", 2), (".tmp-new", 0)):
        (root / name).mkdir()
        if age:
            os.utime(root / name, (0, 0))
    collect_garbage(root)
    assert sorted(path.name for path in root.iterdir()) == [".tmp-new", "v00000001"]


def test_a_held_version_survives_its_collection(root: Path, model_files: Path) -> None:
    folder = publish_version(root, model_files, 1)
    content_hash = read_manifest(folder).content_hash
    publish_version(root, model_files, 2)
    with held(folder, "rollout-1") as private:
        collect_garbage(root, keep=1)
        assert not folder.exists()
        assert read_manifest(private).version == 1
        assert "model.norm.weight" in read_verified(private / TENSORS_FILE, content_hash)
    assert [path.name for path in root.iterdir()] == ["v00000002"]


def test_a_collected_version_cannot_be_held(root: Path, model_files: Path) -> None:
    publish_version(root, model_files, 1)
    gone = file_store.version_folder(root, 7)
    with pytest.raises(VersionGone), held(gone, "rollout-1"):
        pass
    with pytest.raises(VersionGone):
        read_manifest(gone)
    assert [path.name for path in root.iterdir()] == ["v00000001"]


def test_a_broken_manifest_is_a_typed_error(root: Path, model_files: Path) -> None:
    folder = publish_version(root, model_files, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    for broken in ("{", json.dumps(manifest | {"content_hash": "x"}), json.dumps(manifest | {"extra": 1})):
        (folder / "manifest.json").write_text(broken)
        with pytest.raises(BadManifest):
            read_manifest(folder)


def test_what_is_read_is_what_was_hashed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    content_hash, infos = write_hashed(path, tensors(3), torch.float32)
    read = read_verified(path, content_hash)
    assert describe(read) == infos
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors(3).items())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ContentMismatch, match="content hash"):
        read_verified(path, content_hash)


def test_a_version_with_a_sha256_is_still_proven(root: Path, model_files: Path) -> None:
    folder = publish_version(root, model_files, 1)
    path = folder / TENSORS_FILE
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    told = json.loads((folder / MANIFEST_FILE).read_text()) | {"content_hash": digest}
    (folder / MANIFEST_FILE).write_text(json.dumps(told))
    manifest = read_manifest(folder)
    assert describe(read_verified(path, manifest.content_hash)) == manifest.tensors
    for wrong in (f"blake3:{digest}", blake3(path.read_bytes()).hexdigest(), "0" * 64):
        with pytest.raises(ContentMismatch):
            read_verified(path, wrong)


def test_an_unknown_dtype_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tensors\[phase\]: dtype torch.complex64"):
        write_hashed(tmp_path / "x", {"phase": torch.ones(1, dtype=torch.complex64)}, torch.float32)

"""Version folders on a file system: publish, find, hold, collect.

Invariants: a version folder appears complete by one rename and never changes; it vanishes by one rename too. Whoever
loads a version holds it first (hard links), so that a collection can't pull it away. `root` is one job's folder on
storage that learner and engines share.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from services.disk.files import age_seconds, fsync, make_folder, write_durable
from services.weights.fingerprint import write_hashed
from services.weights.manifest import HEAD, MANIFEST_FILE, TENSORS_FILE, Canary, Manifest

LEFTOVER_SECONDS = 3600.0
"""Age after which what a killed process left behind (temporary, held or trashed folders) is removed."""
_VERSION = re.compile(r"v(\d{8,})")
_COPIED = ("config.json", "generation_config.json")


class VersionExists(Exception):
    """A version is published once."""


class VersionGone(Exception):
    """The version folder is not there any more, or never was."""


class BadManifest(ValueError):
    """A manifest.json that is not a manifest."""


def version_folder(root: Path, version: int) -> Path:
    """Where `version` lies."""
    return root / f"v{version:08d}"


def publish(
    root: Path,
    tensors: Mapping[str, Tensor],
    *,
    version: int,
    step: int,
    canary: Canary,
    model_files: Path,
    dtype: torch.dtype,
) -> Path:
    """Write a version folder and return it. Never overwrites: raises VersionExists.

    Args:
        tensors: by Hugging Face name, as `named_parameters` gives them: a tied `lm_head.weight` is left out.
        model_files: folder of the base model, whose config.json (and generation_config.json) is copied.
        dtype: what floating tensors are cast to; the engine's.
    """
    final = version_folder(root, version)
    if final.exists():
        raise VersionExists(f"version {version} is already in {root}")
    _refuse_aliases(tensors)
    temporary = root / f".tmp-{final.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(root)
    temporary.mkdir()
    content_hash, infos = write_hashed(temporary / TENSORS_FILE, tensors, dtype)
    manifest = Manifest(
        version=version,
        step=step,
        tensors=infos,
        content_hash=content_hash,
        canary=canary,
        tied_embeddings=HEAD not in tensors,
    )
    write_durable(temporary / MANIFEST_FILE, manifest.model_dump_json(indent=1).encode())
    for name in _COPIED:
        if name == "config.json" or (model_files / name).exists():
            write_durable(temporary / name, (model_files / name).read_bytes())
    fsync(temporary)
    try:
        os.rename(temporary, final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise VersionExists(f"version {version} is already in {root}") from error
    fsync(root)
    return final


def versions(root: Path) -> dict[int, Path]:
    """Published versions and their folders, oldest first."""
    found = {int(m[1]): path for path in root.glob("v*") if (m := _VERSION.fullmatch(path.name))}
    return dict(sorted(found.items()))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version folder. Raises VersionGone without the folder, BadManifest for what is none."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise VersionGone(str(path)) from error
    except ValidationError as error:
        raise BadManifest(f"{path}: {error}") from error


@contextmanager
def held(folder: Path, holder: str) -> Iterator[Path]:
    """A private folder with hard links to a version's files, for as long as it is loaded. Raises VersionGone.

    `holder` names the one who loads (a worker id); one holder loads one version at a time.
    """
    private = folder.parent / f".held-{holder}" / folder.name
    shutil.rmtree(private.parent, ignore_errors=True)
    private.mkdir(parents=True)
    try:
        try:
            for file in folder.iterdir():
                os.link(file, private / file.name)
        except FileNotFoundError as error:
            raise VersionGone(str(folder)) from error
        yield private
    finally:
        shutil.rmtree(private.parent, ignore_errors=True)


def collect_garbage(root: Path, keep: int = 3) -> list[int]:
    """Remove all but the newest `keep` versions and old leftovers of killed processes; returns the versions removed."""
    if keep < 1:
        raise ValueError(f"keep: {keep}, at least the newest version has to stay")
    found = versions(root)
    old = list(found)[:-keep]
    for version in old:
        trash = root / f".trash-{found[version].name}"
        os.rename(found[version], trash)
        shutil.rmtree(trash, ignore_errors=True)
    for leftover in [path for pattern in (".tmp-*", ".held-*", ".trash-*") for path in root.glob(pattern)]:
        if age_seconds(leftover) > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)
    return old


def _refuse_aliases(tensors: Mapping[str, Tensor]) -> None:
    seen: dict[int, str] = {}
    for name, tensor in tensors.items():
        other = seen.setdefault(tensor.data_ptr(), name)
        if other != name and tensor.numel():
            raise ValueError(f"tensors[{name}]: shares its storage with {other}; leave tied names out")

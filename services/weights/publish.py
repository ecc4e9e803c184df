"""Writing a version folder: complete by one rename, never changed afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from services.disk.files import fsync, make_folder, write_durable
from services.weights.file_store import version_folder
from services.weights.fingerprint import write_hashed
from services.weights.manifest import HEAD, MANIFEST_FILE, TENSORS_FILE, Canary, Manifest

COPIED = ("config.json", "generation_config.json")
"""Files of the model's folder that engines need beside weights."""


class VersionExists(Exception):
    """A version is published once."""


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
    for name in COPIED:
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


def _refuse_aliases(tensors: Mapping[str, Tensor]) -> None:
    seen: dict[int, str] = {}
    for name, tensor in tensors.items():
        other = seen.setdefault(tensor.data_ptr(), name)
        if other != name and tensor.numel():
            raise ValueError(f"tensors[{name}]: shares its storage with {other}; leave tied names out")

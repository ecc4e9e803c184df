"""Safetensors files whose hash is taken in the same pass that writes or reads them.

A content hash says how it was made: `blake3:HEX`, or HEX alone, which is sha256. Versions have the first, checkpoints
and the versions of older learners the second.

Invariant: what `read_verified` returns are views of the very bytes it hashed, so there is no moment between check and
use. Reading maps the file privately; nothing is copied until a loader copies it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from blake3 import blake3
from torch import Tensor

from services.disk.files import durable
from services.weights.manifest import TensorInfo

Algorithm = Literal["blake3", "sha256"]
CHUNK_BYTES = 8 * 2**20
BLAKE3 = "blake3:"
_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


class ContentMismatch(Exception):
    """A safetensors file is not the one its manifest describes."""


def write_hashed(
    path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None, *, algorithm: Algorithm = "blake3"
) -> tuple[str, dict[str, TensorInfo]]:
    """Write a safetensors file; fsync. Returns its content hash and what it holds.

    Floating tensors are cast to `dtype`, or stay what they are when it is None.

    Tensors stay in the given order (an engine reloads layer by layer), wider dtypes first for alignment. One tensor at
    a time is copied to the host. Raises ValueError for a dtype that is not supported.
    """
    targets = {
        name: dtype if dtype and tensor.is_floating_point() else tensor.dtype for name, tensor in tensors.items()
    }
    names = sorted(tensors, key=lambda name: -targets[name].itemsize)
    header = _header({name: (targets[name], tuple(tensors[name].shape)) for name in names})
    prefix, digest = (BLAKE3, blake3(header)) if algorithm == "blake3" else ("", hashlib.sha256(header))
    with durable(path) as file:
        file.write(header)
        for name in names:
            flat = tensors[name].detach().to("cpu", targets[name]).contiguous().reshape(-1)
            data = flat.view(torch.uint8).numpy().data
            digest.update(data)
            file.write(data)
    infos = {name: TensorInfo(shape=tuple(tensors[name].shape), dtype=_short(targets[name])) for name in names}
    return prefix + digest.hexdigest(), infos


def read_verified(path: Path, content_hash: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU, as views of the bytes that were hashed.

    Raises ContentMismatch when the hash is another one or the file is no safetensors file.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    prefix, digest = (BLAKE3, blake3()) if content_hash.startswith(BLAKE3) else ("", hashlib.sha256())
    view = memoryview(mapped)
    for start in range(0, len(view), CHUNK_BYTES):
        digest.update(view[start : start + CHUNK_BYTES])
    found = prefix + digest.hexdigest()
    if found != content_hash:
        raise ContentMismatch(f"{path}: its content hash is {found}, its manifest says {content_hash}")
    start = 8 + int.from_bytes(view[:8], "little")
    entries = json.loads(bytes(view[8:start]))
    entries.pop("__metadata__", None)
    return {name: _tensor(mapped, start, entry) for name, entry in entries.items()}


def describe(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    """Shape and dtype by name."""
    return {name: TensorInfo(shape=tuple(t.shape), dtype=_short(t.dtype)) for name, t in tensors.items()}


def _header(tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        if dtype not in _NAMES:
            raise ValueError(f"tensors[{name}]: dtype {dtype} is not supported")
        end = offset + dtype.itemsize * torch.Size(shape).numel()
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    body = json.dumps(entries, separators=(",", ":")).encode()
    body += b" " * (-len(body) % 8)
    return len(body).to_bytes(8, "little") + body


def _tensor(mapped: mmap.mmap, start: int, entry: dict[str, object]) -> Tensor:
    dtype, shape = _DTYPES[str(entry["dtype"])], torch.Size(entry["shape"])  # type: ignore[arg-type]
    begin = entry["data_offsets"][0]  # type: ignore[index]
    return torch.frombuffer(mapped, dtype=dtype, count=shape.numel(), offset=start + begin).view(shape)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

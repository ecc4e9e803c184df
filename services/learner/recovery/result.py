"""What training a record gave: figures, and a digest of the weights, so that a replay can be compared bit for bit.

One JSON file beside the record, `journal/<sequence>.out`, written after the step and not synced: the journal is the
truth, this is evidence. The weights' digest is in every one while they are small (`DIGEST_BYTES`), else in those of
steps that a checkpoint follows. It goes when the record's groups go.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DIGEST_BYTES = 64 * 2**20
"""Weights up to this size are hashed after every step: at 1 GB/s that is 64 ms."""
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StepResult:
    """Plain numbers of one trained record."""

    step: int
    figures: dict[str, float | None]
    """Top-level figures of the step: loss, grad_norm, reward_mean, ..."""
    weights_sha256: str | None
    environment: dict[str, str | int] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION


def result_of(step: int, figures: Mapping[str, Any], weights: Mapping[str, Tensor], *, digest: bool) -> StepResult:
    """The result of a step. `digest`: hash the weights even if they are large."""
    plain = {name: value for name, value in figures.items() if value is None or isinstance(value, int | float)}
    size = sum(tensor.nbytes for tensor in weights.values())
    hashed = weights_sha256(weights) if digest or size <= DIGEST_BYTES else None
    return StepResult(step, plain, hashed, environment())


def same(one: object, other: object) -> bool:
    """Equal to the bit, as far as JSON tells: NaN equals itself here."""
    return one == other or (one != one and other != other)


def differing(before: StepResult, after: StepResult) -> list[str]:
    """Names of what is not the same to the bit; a digest that one of them lacks is not compared."""
    names = sorted(before.figures.keys() & after.figures.keys())
    found = [name for name in names if not same(before.figures[name], after.figures[name])]
    hashes = {before.weights_sha256, after.weights_sha256} - {None}
    return [*found, "weights_sha256"] if len(hashes) > 1 else found


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def environment() -> dict[str, str | int]:
    """What the bits of a step depend on beside its inputs."""
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def write(path: Path, result: StepResult) -> None:
    """Write, whole or not at all; replaces an earlier one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(result), sort_keys=True))
    temporary.rename(path)


def read(path: Path) -> StepResult | None:
    """The result, or None where there is none that can be read: it is evidence only."""
    try:
        return StepResult(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())

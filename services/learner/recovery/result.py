"""The outcome of training a record: figures, and a digest of the weights, so a replay can be compared bit for bit.

One JSON file beside the record, `journal/<sequence>.out`, written after the step and not synced: the journal is the
truth, this is evidence. If the weights are small (`DIGEST_BYTES`) every outcome has their digest, else only that of a
step before a checkpoint. The file goes when the groups of the record go.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.learner.backend import Backend
from services.records.record import numbers
from services.records.step import StepFigures

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


def result_of(step: int, figures: StepFigures, backend: Backend, *, digest: bool) -> StepResult:
    """The result of a step. `digest`: hash the weights even if they are large."""
    top_level = {name: value for name, value in numbers(figures) if "." not in name}
    hashed = backend.weights_sha256(most_bytes=None if digest else DIGEST_BYTES)
    return StepResult(step, top_level, hashed, backend.environment())


def same(one: object, other: object) -> bool:
    """Equal to the bit, as far as JSON tells: NaN equals itself here."""
    return one == other or (one != one and other != other)


def differing(before: StepResult, after: StepResult) -> list[str]:
    """Names of values that are not the same to the bit. A digest that one side lacks is not compared."""
    names = sorted(before.figures.keys() & after.figures.keys())
    found = [name for name in names if not same(before.figures[name], after.figures[name])]
    hashes = {before.weights_sha256, after.weights_sha256} - {None}
    return [*found, "weights_sha256"] if len(hashes) > 1 else found


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

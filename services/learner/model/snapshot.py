"""Weights and optimiser in host memory, and as the files of a checkpoint: safetensors, proven by their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from services.learner.backend import Comparison
from services.learner.errors import CheckpointDamaged
from services.weights.fingerprint import ContentMismatch, read_verified, write_hashed

MODEL, OPTIMISER = "model.safetensors", "optimiser.safetensors"


def host_copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in host memory, which training does not touch any more."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class HostCopy:
    """Copies of all tensors of a checkpoint. Implements `Capture`."""

    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.model.values(), *self.optimiser.values()))

    def write(self, folder: Path) -> dict[str, str]:
        return {
            MODEL: write_hashed(folder / MODEL, self.model, None, algorithm="sha256")[0],
            OPTIMISER: write_hashed(folder / OPTIMISER, self.optimiser, None, algorithm="sha256")[0],
        }


def read(folder: Path, hashes: Mapping[str, str]) -> HostCopy:
    """Read the files of `HostCopy.write`. Raises CheckpointDamaged."""
    try:
        model = read_verified(folder / MODEL, hashes[MODEL])
        optimiser = read_verified(folder / OPTIMISER, hashes[OPTIMISER])
    except (OSError, ValueError, KeyError, TypeError, ContentMismatch) as error:
        raise CheckpointDamaged(f"{folder.name}: {error}") from error
    # Copies: training goes on writing into the optimiser's tensors, and the file must not stay mapped for that.
    return HostCopy(model, {name: tensor.clone() for name, tensor in optimiser.items()})


def compare(stored: HostCopy, ours: HostCopy) -> list[Comparison]:
    """The model, then the optimiser: one entry where all is the same to the bit, else one for every other tensor."""
    return [
        *_compare("checkpoint model", stored.model, ours.model),
        *_compare("checkpoint optimiser", stored.optimiser, ours.optimiser),
    ]


def _compare(what: str, stored: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[Comparison]:
    found = []
    for name in sorted(stored.keys() | ours.keys()):
        one, other = stored.get(name), ours.get(name)
        if one is None or other is None or one.shape != other.shape:
            found.append(Comparison(f"{what}: {name}", _shape(one), _shape(other)))
        elif not torch.equal(_bits(one), _bits(other)):
            gap = float((one.double() - other.double()).abs().max())
            found.append(Comparison(f"{what}: {name}", "", f"max abs difference {gap:.3g}"))
    return found or [Comparison(what, "the same", "the same")]


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))

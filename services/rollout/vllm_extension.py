"""Code that runs inside vLLM's worker: reload from a version folder, and the proof that every layer has its new
weights.

Named to vLLM by `worker_extension_cls`, which adds this class to the worker's bases, so its attributes must have names
that the worker doesn't use. Arguments and answers cross a process border as plain values, so a refusal is an answer,
not an exception; an exception after the first tensor moved means a half-loaded model.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from services.faults import fault
from services.weights.file_store import BadManifest, VersionGone, read_manifest
from services.weights.fingerprint import ContentMismatch, describe, read_verified
from services.weights.manifest import HEAD, TENSORS_FILE

PROBES = 4
"""Columns of each packed layer that are asked for after a load."""
PARENT_POLL_SECONDS = 0.5


class HalfLoaded(RuntimeError):
    """After a reload the model does not hold what the file does."""


class VersionedWeights:
    """Mixin of vLLM's worker. Verifying and loading answer {"refused": reason, or ""}."""

    def sspo_end_with_parent(self) -> None:
        """End this process once its parent is gone: an engine must not outlive the worker that owns it."""
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def sspo_verify_version(self, folder: str, content_hash: str) -> dict[str, str]:
        """Compare the model with a version folder it was cold-started from; changes nothing."""
        try:
            tensors = _read(Path(folder), content_hash)
        except (ContentMismatch, VersionGone, BadManifest, OSError) as error:
            return {"refused": str(error)}
        wrong = _differences(self.get_model(), tensors)  # type: ignore[attr-defined]
        return {"refused": f"the model does not hold the file's weights: {wrong[:4]}" if wrong else ""}

    def sspo_load_version(self, folder: str, content_hash: str) -> dict[str, str]:
        """Load a version folder into the live model. Raises HalfLoaded, or what the reload raises."""
        try:
            tensors = _read(Path(folder), content_hash)
        except (ContentMismatch, VersionGone, BadManifest, OSError) as error:
            return {"refused": str(error)}
        model = self.get_model()  # type: ignore[attr-defined]
        self.reload_weights(weights_iterator=iter(tensors.items()))  # type: ignore[attr-defined]
        fault("engine.mid_weight_load")
        repack_heads(model)
        wrong = _differences(model, tensors)
        if wrong:
            raise HalfLoaded(f"after the reload these differ from the file: {wrong[:4]}")
        return {"refused": ""}


def repack_heads(model: nn.Module) -> None:
    """Pack every output head again.

    On the CPU a head is packed into memory of its own. A tied one receives no tensor in a reload, so it would go on
    with the packed copy of the old embedding, silently.
    """
    for layer in model.modules():
        if isinstance(layer, ParallelLMHead):
            layer.quant_method.process_weights_after_loading(layer)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(1)


def _read(folder: Path, content_hash: str) -> dict[str, Tensor]:
    """Tensors of the folder, whose hash, names, shapes and dtypes are what the manifest says."""
    manifest = read_manifest(folder)
    tensors = read_verified(folder / TENSORS_FILE, content_hash)
    found = describe(tensors)
    if found != manifest.tensors:
        differing = sorted({name for name, _ in found.items() ^ manifest.tensors.items()})
        raise ContentMismatch(f"{folder}: tensors differ from the manifest: {differing[:4]}")
    return tensors


@torch.inference_mode()
def _differences(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of parameters that are not what `tensors` says, in any precision.

    A parameter that is still there must be equal. A layer may hold its weight in a packed form that can't be read:
    it is asked for a few columns with one-hot inputs, whose answer is exact however the sums are ordered.
    """
    wrong = []
    for prefix, layer in model.named_modules():
        for name, parameter in layer.named_parameters(prefix, recurse=False):
            expected = _expected(model, tensors, name)
            if expected is None or (parameter.numel() and not _same(parameter, expected)):
                wrong.append(name)
        if isinstance(layer, LinearBase | ParallelLMHead) and not _answers(
            layer, _expected(model, tensors, f"{prefix}.weight")
        ):
            wrong.append(f"{prefix}.weight (packed)")
    return wrong


def _expected(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> Tensor | None:
    """The tensor that parameter `name` must hold: the file's, several fused into it, or the embedding of a tied
    head."""
    if name in tensors:
        return tensors[name]
    if name == HEAD:
        return tensors.get("model.embed_tokens.weight")
    prefix, _, leaf = name.rpartition(".")
    parent, _, fused = prefix.rpartition(".")
    mapping: Mapping[str, list[str]] = getattr(model, "packed_modules_mapping", {})
    parts = [tensors.get(f"{parent}.{part}.{leaf}") for part in mapping.get(fused, [])]
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present and len(present) == len(parts) else None


def _same(parameter: Tensor, expected: Tensor) -> bool:
    """Equal in the leading rows; more rows are vLLM's padding of the vocabulary."""
    return torch.equal(parameter[: len(expected)].cpu().to(expected.dtype), expected)


def _answers(layer: Any, expected: Tensor | None) -> bool:
    if expected is None:
        return False
    rows, columns = expected.shape
    digest = hashlib.sha256(expected[0].view(torch.uint8).numpy().data).digest()
    chosen = random.Random(digest).choices(range(columns), k=PROBES)
    device = layer.weight.device
    probe = nn.functional.one_hot(torch.tensor(chosen), columns).to(device=device, dtype=expected.dtype)
    answer = layer.quant_method.apply(layer, probe, None)
    return torch.equal(answer[:, :rows].cpu().to(expected.dtype), expected[:, chosen].T)

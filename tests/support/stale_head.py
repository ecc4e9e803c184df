"""A worker extension with one more call: a reload that forgets the tied head, as a bare reload on the CPU does."""

from __future__ import annotations

from pathlib import Path

from services.rollout.vllm_extension import VersionedWeights
from services.weights.fingerprint import read_verified
from services.weights.manifest import TENSORS_FILE


class StaleHeadWeights(VersionedWeights):
    """Used by the tests only; everything else is the product's."""

    def sspo_load_without_head(self, folder: str, content_hash: str) -> None:
        tensors = read_verified(Path(folder) / TENSORS_FILE, content_hash)
        self.reload_weights(weights_iterator=iter(tensors.items()))  # type: ignore[attr-defined]

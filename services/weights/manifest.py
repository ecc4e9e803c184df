"""The manifest of a version folder: `manifest.json`.

Written by the learner, read by every engine. It names the version, the step after which it was published, every tensor
with shape and dtype, the content hash of the safetensors file, and the learner's answer to the canary.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MANIFEST_FILE = "manifest.json"
TENSORS_FILE = "model.safetensors"
HEAD = "lm_head.weight"
"""Absent from the file when the head is tied to the embedding."""


class TensorInfo(BaseModel):
    """Shape and dtype ("float32", "bfloat16", ...) of one tensor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: tuple[int, ...]
    """Sizes of its dimensions."""
    dtype: str
    """Name of its number format."""


class Canary(BaseModel):
    """Fixed tokens and the learner's log-probs of them: `logprobs[i]` is log p(token_ids[i+1] | token_ids[:i+1])."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_ids: tuple[int, ...] = Field(min_length=2)
    """The tokens."""
    logprobs: tuple[float, ...]
    """The learner's answer, in nats."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.logprobs) != len(self.token_ids) - 1:
            raise ValueError(
                f"logprobs: {len(self.logprobs)} values for {len(self.token_ids)} tokens, one less expected"
            )
        return self


class Manifest(BaseModel):
    """Everything an engine needs to load a version and to prove that it did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=0)
    """Number of the weights, counted from 1 as they are published."""
    step: int = Field(ge=0)
    """Steps trained before it was published."""
    tensors: dict[str, TensorInfo] = Field(min_length=1)
    """By Hugging Face name, in file order."""
    content_hash: str = Field(pattern=r"^(blake3:)?[0-9a-f]{64}$")
    """Of the safetensors file: its blake3, or, without a prefix, its sha256 (written before blake3 was)."""
    canary: Canary
    """What an engine must answer after it has loaded the file."""
    tied_embeddings: bool
    """Whether the head is the embedding, and so absent from the file."""

"""The engine interface: everything that a rollout worker needs of an inference engine.

One engine holds one version of the weights at a time; every token it samples is labelled with the version that sampled
it. Behaviour log-probs are those of the distribution really sampled from (after temperature). The engine decides how
weights travel: it gets a version folder and its manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.weights.manifest import Manifest


class EngineBroken(Exception):
    """The engine is dead, hung or half loaded. It can only be replaced, together with its process."""


class LoadRefused(Exception):
    """A version was refused before the model was touched; the engine goes on with what it has."""


class RequestRefused(ValueError):
    """The engine can't sample this request (too long, unknown token); another request may well do."""


@dataclass(frozen=True)
class SampleRequest:
    """One group: `group_size` completions of one prompt."""

    request_id: str
    """Unique in the engine's life."""
    prompt_token_ids: tuple[int, ...]
    group_size: int
    temperature: float
    """0 is greedy."""
    max_tokens: int
    seed: int
    stop_token_ids: tuple[int, ...]
    background: bool = False
    """Yields to other requests (evaluation)."""


@dataclass(frozen=True)
class Span:
    """Tokens start..end (end excluded) were sampled under `version`."""

    version: int
    start: int
    end: int


@dataclass(frozen=True)
class SampledCompletion:
    """Token ids (stop token included), the log-prob of each, and spans that cover all of them in order."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    spans: tuple[Span, ...]
    stop_reason: str
    """"stop" or "length"."""


SampledGroup = tuple[SampledCompletion, ...]


class Engine(Protocol):
    """All methods but `stop` raise EngineBroken when the engine has to be replaced."""

    @property
    def pid(self) -> int | None:
        """Process that holds the model, while it runs."""

    async def start(self, folder: Path, manifest: Manifest) -> None:
        """Cold start from a version folder. Raises LoadRefused when the folder is not what its manifest says."""

    async def sample(self, request: SampleRequest) -> SampledGroup:
        """Sample a group. Cancelling the call aborts the request. Raises RequestRefused."""

    async def load(self, folder: Path, manifest: Manifest) -> None:
        """Change to another version while requests run on. Raises LoadRefused."""

    async def canary(self, token_ids: tuple[int, ...]) -> list[float]:
        """Log-probs of `token_ids[1:]` at temperature 1, ahead of everything that waits."""

    async def check(self) -> None:
        """Returns once the engine's own loop has turned. The caller sets the deadline."""

    async def stop(self) -> None:
        """End the engine's process. Never raises for an engine that is dead already."""

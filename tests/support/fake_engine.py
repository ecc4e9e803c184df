"""An engine without a model: one token every few milliseconds, labelled with the version it holds at that moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.rollout.engine import EngineBroken, RequestRefused, SampledCompletion, SampledGroup, SampleRequest, Span
from services.weights.manifest import Manifest

REFUSED_TOKEN = 666
"""A prompt that holds it is refused."""


class FakeEngine:
    """Fulfils `services.rollout.engine.Engine`; the public fields steer and record it."""

    def __init__(self) -> None:
        self.token_seconds = 0.002
        self.load_seconds = 0.0
        self.hold_load = asyncio.Event()
        self.hold_load.set()
        self.hold_canary = asyncio.Event()
        self.hold_canary.set()
        self.wrong_canaries: set[int] = set()
        self.load_error: Exception | None = None
        self.broken: EngineBroken | None = None
        self.hung = False
        self.loaded: list[int] = []
        self.requests: list[SampleRequest] = []
        self.running = 0
        self.tokens = 0
        self.stopped = False
        self._manifest: Manifest | None = None

    @property
    def pid(self) -> int | None:
        return 4711 if self._manifest is not None and not self.stopped else None

    async def start(self, folder: Path, manifest: Manifest) -> None:
        await self.load(folder, manifest)

    async def load(self, folder: Path, manifest: Manifest) -> None:
        assert (folder / "model.safetensors").is_file()
        await asyncio.sleep(self.load_seconds)
        await self.hold_load.wait()
        if self.load_error is not None:
            raise self.load_error
        self._manifest = manifest
        self.loaded.append(manifest.version)

    async def sample(self, request: SampleRequest) -> SampledGroup:
        if REFUSED_TOKEN in request.prompt_token_ids:
            raise RequestRefused("an unknown token")
        self.requests.append(request)
        self.running += 1
        try:
            versions = [await self._token() for _ in range(request.max_tokens)]
        finally:
            self.running -= 1
        completion = SampledCompletion(
            token_ids=tuple(range(request.max_tokens)),
            logprobs=(-1.0,) * request.max_tokens,
            spans=_spans(versions),
            stop_reason="length",
        )
        return (completion,) * request.group_size

    async def canary(self, token_ids: tuple[int, ...]) -> list[float]:
        await self.hold_canary.wait()
        assert self._manifest is not None
        wrong = self._manifest.version in self.wrong_canaries
        return [value - wrong for value in self._manifest.canary.logprobs]

    async def check(self) -> None:
        if self.broken is not None:
            raise self.broken
        if self.hung:
            await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopped = True

    async def _token(self) -> int:
        await asyncio.sleep(self.token_seconds)
        if self.broken is not None:
            raise self.broken
        assert self._manifest is not None
        self.tokens += 1
        return self._manifest.version


def _spans(versions: list[int]) -> tuple[Span, ...]:
    starts = [i for i, version in enumerate(versions) if i == 0 or version != versions[i - 1]]
    ends = [*starts[1:], len(versions)]
    return tuple(Span(versions[start], start, end) for start, end in zip(starts, ends, strict=True))

"""A rollout worker of the product around an engine that says it has loaded new weights and keeps the old ones."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import torch

from services.job.spec import JobSpec
from services.rollout.engine import SampledCompletion, SampledGroup, SampleRequest, Span
from services.rollout.proven_weights import CanaryFailed
from services.rollout.worker import RolloutWorker
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.codec import read_floats, read_ints
from services.weights.canary import compute
from services.weights.manifest import Manifest
from testbed.engines import NO_FAULT, FaultySampler, StudyEngine
from testbed.sampler import Question, Snapshot

WORKER = "rollout-stale"


class StaleEngine:
    """Fulfils `services.rollout.engine.Engine`; every load after the first changes the label alone."""

    pid = 1

    def __init__(self, model: Any, group_size: int, max_tokens: int) -> None:
        self._weights = StudyEngine(model, group_size, max_tokens, NO_FAULT)
        self._model = model
        self._sampler = FaultySampler(model, group_size, max_tokens, NO_FAULT)
        self._label = 0
        self.sampled: dict[int, int] = {}
        """Version by the label → groups."""

    async def start(self, folder: Path, manifest: Manifest) -> None:
        self._weights.load(folder)
        self._model.load_state_dict(self._weights.newest.tensors)
        self._label = manifest.version

    async def load(self, folder: Path, manifest: Manifest) -> None:
        self._label = manifest.version

    async def sample(self, request: SampleRequest) -> SampledGroup:
        snapshot = Snapshot(0, self._weights.newest.tensors)
        generator = torch.Generator().manual_seed(request.seed)
        group = self._sampler.groups(snapshot, [Question(list(request.prompt_token_ids), [])], generator)[0]
        self.sampled[self._label] = self.sampled.get(self._label, 0) + 1
        return tuple(
            SampledCompletion(
                token_ids=tuple(read_ints(one.completion_token_ids).tolist()),
                logprobs=tuple(read_floats(one.behaviour_logprobs).tolist()),
                spans=(Span(self._label, 0, len(read_ints(one.completion_token_ids))),),
                stop_reason=one.stop_reason,
            )
            for one in group.trajectories
        )

    async def canary(self, token_ids: tuple[int, ...]) -> list[float]:
        return compute(self._model, token_ids)

    async def check(self) -> None:
        return

    async def stop(self) -> None:
        return


class StaleWorker:
    """The worker on a thread of its own; `failure` says how it ended."""

    def __init__(self, spec: JobSpec, client: Client, model: Any) -> None:
        self._spec, self._client = spec, client
        self.engine = StaleEngine(model, spec.rollout.group_size, spec.rollout.max_tokens)
        self._worker = RolloutWorker(spec, WORKER, client, self.engine)
        self._thread = threading.Thread(target=self._run, daemon=True, name="stale")
        self.failure = ""

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._worker.drain()
        self._thread.join(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._worker.run())
        except CanaryFailed as error:
            self.failure = str(error)
        finally:
            streams.release_consumer(self._client, self._spec.job_id, WORKER)

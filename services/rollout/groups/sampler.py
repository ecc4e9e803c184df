"""Reads the task of one group, samples it, and hands over the group or its failure.

Invariant: a group is handed over only when every version in its spans has passed its canary; an evaluation has one
version only.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from services.job.spec import JobSpec
from services.observability.meters import METERS
from services.rollout.engine import Engine, RequestRefused, SampledGroup, SampleRequest
from services.rollout.groups.lane import AsyncLane
from services.rollout.groups.messages import failure_payload, request_of, sampled_group, sampling_task
from services.rollout.proven_weights import ProvenWeights
from services.store.client import Client
from services.trajectories.codec import MalformedMessage, completion_tokens, encode, oldest_step
from services.trajectories.entries import Entry
from services.trajectories.outcomes import DropReason, GroupFailed
from services.trajectories.tallies import WEIGHTS_CHANGED, Tallies
from sspo_proto.trajectory_pb2 import Group, PromptTask

log = structlog.get_logger()

EVALUATION_TRIES = 5
"""How often an evaluation's sample may be discarded because the weights changed in it."""


class Sampler:
    """Samples groups of one job with one engine."""

    def __init__(self, spec: JobSpec, worker_id: str, client: Client, engine: Engine, weights: ProvenWeights) -> None:
        self._spec = spec
        self._id = worker_id
        self._engine = engine
        self._weights = weights
        self._tallies = Tallies(client)
        self._requests = 0
        self.tokens = 0
        """Completion tokens sampled so far."""

    async def handle(self, lane: AsyncLane, entry: Entry) -> None:
        """Sample a group and hand it over. Raises EngineBroken and StoreError; the entry stays held then."""
        tokens = 0
        try:
            task = sampling_task(entry, self._spec, evaluation=lane.evaluation)
            group = await self._sample(task, evaluation=lane.evaluation)
            tokens = completion_tokens(group)
            await lane.hand_over(entry, encode(group), oldest_step(group), tokens)
        except GroupFailed as error:
            await self._fail(lane, entry, error, tokens)

    async def _fail(self, lane: AsyncLane, entry: Entry, error: GroupFailed, tokens: int) -> None:
        """Account for a group that no worker can sample; `tokens` were sampled for it in vain."""
        log.warning("group_unsampleable", number=entry.number, reason=error.reason, code=error.code)
        payload = failure_payload(self._spec.job_id, entry, error, self._id)
        if error.is_kept:
            await lane.bury(replace(entry, tokens=tokens), error, payload)
        else:
            await lane.hand_over(entry, payload, entry.step, tokens)

    async def _sample(self, task: PromptTask, *, evaluation: bool) -> Group:
        """A group whose versions have all passed. Raises GroupFailed."""
        for _ in range(EVALUATION_TRIES):
            self._requests += 1
            sampled = await self._ask(request_of(task, f"{self._id}-{self._requests}", background=evaluation))
            tokens = sum(len(completion.token_ids) for completion in sampled)
            self.tokens += tokens
            METERS.count("sspo_rollout_completion_tokens_total", tokens)
            METERS.count("sspo_rollout_groups_total")
            versions = {span.version for completion in sampled for span in completion.spans}
            await self._weights.passed(versions)
            if not evaluation or len(versions) == 1:
                return sampled_group(task, sampled, self._weights.steps, self._id)
            await asyncio.to_thread(self._tallies.waste, self._spec.job_id, WEIGHTS_CHANGED, tokens)
        detail = f"{EVALUATION_TRIES} samples spanned two versions"
        raise GroupFailed(DropReason.STALE, "weights_changed", detail)

    async def _ask(self, request: SampleRequest) -> SampledGroup:
        try:
            return await self._engine.sample(request)
        except RequestRefused as error:
            raise MalformedMessage(str(error), code="request_refused") from error

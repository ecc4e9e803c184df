"""A rollout worker: takes prompts, samples groups, hands them over; changes weights while it samples.

One loop does everything that has an order: heartbeat, leases, weights, taking. Each group is a task of its own. What
breaks the engine or its proof ends `run` with an error, after which the process has to go. Leases are given back where
the groups can't be the cause; where they may have broken the engine they run out, so that the death is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from services.job.spec import JobSpec
from services.observability.meters import METERS
from services.rollout.engine import Engine, EngineBroken, LoadRefused, RequestRefused
from services.rollout.lane import Lane
from services.rollout.messages import (
    Unsampleable,
    failure_payload,
    group_payload,
    read_task,
    request_of,
    sampled_group,
)
from services.rollout.presence import Presence
from services.rollout.watch import EngineWatch
from services.rollout.weights import CanaryFailed, ProvenWeights
from services.store.client import Client
from services.trajectories.codec import completion_tokens, oldest_step
from services.trajectories.entries import EVAL_PROMPTS, EVAL_TRAJECTORIES, PROMPTS, TRAJECTORIES, Entry
from services.trajectories.outcomes import DropReason
from services.trajectories.progress import Progress, ProgressRecord
from services.trajectories.tallies import WEIGHTS_CHANGED, Tallies
from services.weights.file_store import BadManifest, VersionGone
from sspo_proto.trajectory_pb2 import Group, PromptTask

log = structlog.get_logger()

POLL_SECONDS = 0.05
"""Period of looking for newer weights and new prompts."""
REFRESH_SECONDS = 3.0
LEASE_SECONDS = 30.0
ABORT_SECONDS = 1.0
BURIED = (DropReason.MALFORMED, DropReason.POISON)
"""A group that ends so is kept for people."""
EVALUATION_TRIES = 5
"""How often an evaluation's sample may be cut by a change of weights."""


class NoWeights(Exception):
    """No version was published in time."""


@dataclass(frozen=True)
class _Running:
    """A group in work; `deadline` in monotonic seconds."""

    entry: Entry
    evaluation: bool
    deadline: float


class RolloutWorker:
    """Samples groups of one job until it is drained."""

    def __init__(
        self, spec: JobSpec, worker_id: str, client: Client, engine: Engine, metrics_address: str = ""
    ) -> None:
        self._spec = spec
        self._id = worker_id
        self._client = client
        self._engine = engine
        self._weights = ProvenWeights(engine, worker_id, spec.rollout.dtype)
        self._watch = EngineWatch(engine)
        self._training = Lane(client, spec.job_id, PROMPTS, TRAJECTORIES, worker_id)
        self._evaluation = Lane(client, spec.job_id, EVAL_PROMPTS, EVAL_TRAJECTORIES, worker_id)
        self._tallies = Tallies(client)
        self._running: dict[asyncio.Task[None], _Running] = {}
        self._presence = Presence(client, spec.job_id, worker_id, metrics_address)
        self._drain_deadline: float | None = None
        self._next_poll = self._refreshed_at = 0.0
        self._requests = self._tokens = 0

    def drain(self) -> None:
        """Take no new groups; `run` ends when those in work are done, or gives them back after `drain_seconds`."""
        if self._drain_deadline is None:
            self._presence.draining = True
            self._drain_deadline = time.monotonic() + self._spec.rollout.drain_seconds

    async def run(self) -> str:
        """Work until drained; answers "drained".

        Raises EngineBroken, LoadRefused, CanaryFailed, VersionGone, BadManifest, NoWeights, StoreError.
        """
        try:
            await self._start()
            await self._serve()
            await self._abandon()
            await self._give_back()
        except (LoadRefused, CanaryFailed, VersionGone, BadManifest, NoWeights) as error:
            await self._abandon()
            await self._give_back()
            await self._presence.report(error)
            raise
        except EngineBroken as error:
            await self._presence.report(error)
            raise
        finally:
            await self._abandon()
            await self._watch.stop()
            await self._engine.stop()
        return "drained"

    # --- the loop

    async def _start(self) -> None:
        """Wait for published weights, and start the engine on them."""
        deadline = time.monotonic() + self._spec.learner.wait_seconds
        while not (record := await self._progress()).policy_version:
            if self._draining:
                return
            if time.monotonic() > deadline:
                raise NoWeights(f"no weights were published within {self._spec.learner.wait_seconds:.0f} s")
            await self._beat()
            await asyncio.sleep(POLL_SECONDS)
        await self._load(record)

    async def _serve(self) -> None:
        while not self._draining or (self._running and time.monotonic() < (self._drain_deadline or 0.0)):
            await self._tick()
            await self._fill()
            await self._settle()

    async def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + POLL_SECONDS
            await self._follow()
        late = [running.entry.number for running in self._running.values() if now > running.deadline]
        if late:
            raise EngineBroken(f"groups {late[:4]} took longer than {self._spec.learner.wait_seconds:.0f} s")
        if await self._beat():
            self._watch.look()
            if self._watch.alive_at > self._refreshed_at + REFRESH_SECONDS:
                await self._refresh()
            if not self._draining:
                room = self._spec.rollout.concurrent_groups - len(self._running)
                await self._training.take_over(LEASE_SECONDS, room)
                await self._evaluation.take_over(LEASE_SECONDS, room)

    async def _fill(self) -> None:
        """Begin groups while there is room.

        Evaluations, one completion each, always have as many places as one more group has; more only where prompts
        leave some.
        """
        most, reserved = self._spec.rollout.concurrent_groups, self._spec.rollout.group_size
        while not self._draining:
            evaluations = sum(running.evaluation for running in self._running.values())
            entry = None
            if len(self._running) - min(reserved, evaluations) < most:
                entry = await self._training.take()
            if entry is not None:
                await self._begin(self._training, entry)
                continue
            if evaluations < reserved or len(self._running) < most:
                entry = await self._evaluation.take()
            if entry is None:
                return
            await self._begin(self._evaluation, entry)

    async def _begin(self, lane: Lane, entry: Entry) -> None:
        if entry.step > self._weights.step:
            await self._follow()  # issued after a publish that we may not have seen yet
        evaluation = lane is self._evaluation
        deadline = time.monotonic() + self._spec.learner.wait_seconds
        task = asyncio.create_task(self._handle(lane, entry))
        self._running[task] = _Running(entry, evaluation, deadline)

    async def _settle(self) -> None:
        """Wait a moment for groups to end; raises what ended one."""
        if not self._running:
            await asyncio.sleep(POLL_SECONDS)
            return
        done, _ = await asyncio.wait(self._running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._running[task]
            task.result()

    # --- one group

    async def _handle(self, lane: Lane, entry: Entry) -> None:
        evaluation = lane is self._evaluation
        tokens = 0
        try:
            group = await self._sample(read_task(entry, self._spec, evaluation=evaluation), evaluation)
            tokens = completion_tokens(group)
            await lane.hand_over(entry, group_payload(group), oldest_step(group), tokens)
        except Unsampleable as failure:
            await self._fail(lane, entry, failure, tokens)

    async def _fail(self, lane: Lane, entry: Entry, failure: Unsampleable, tokens: int) -> None:
        """Account for a group that no worker can sample; `tokens` were sampled for it in vain."""
        log.warning("group_unsampleable", number=entry.number, reason=failure.reason, code=failure.code)
        payload = failure_payload(self._spec.job_id, entry, failure, self._id)
        if failure.reason in BURIED:
            await lane.bury(replace(entry, tokens=tokens), failure.reason, f"{failure.code}: {failure.detail}", payload)
        else:
            await lane.hand_over(entry, payload, entry.step, tokens)

    async def _sample(self, task: PromptTask, evaluation: bool) -> Group:
        """A group whose versions have all passed; an evaluation's is of one version."""
        for _ in range(EVALUATION_TRIES):
            self._requests += 1
            request = request_of(task, f"{self._id}-{self._requests}", background=evaluation)
            try:
                sampled = await self._engine.sample(request)
            except RequestRefused as error:
                raise Unsampleable(DropReason.MALFORMED, "request_refused", str(error)) from error
            tokens = sum(len(completion.token_ids) for completion in sampled)
            self._tokens += tokens
            METERS.count("sspo_rollout_completion_tokens_total", tokens)
            METERS.count("sspo_rollout_groups_total")
            versions = {span.version for completion in sampled for span in completion.spans}
            await self._weights.passed(versions)
            if not evaluation or len(versions) == 1:
                return sampled_group(task, sampled, self._weights.steps, self._id)
            await asyncio.to_thread(self._tallies.waste, self._spec.job_id, WEIGHTS_CHANGED, tokens)
        raise Unsampleable(DropReason.STALE, "weights_changed", f"{EVALUATION_TRIES} samples spanned two versions")

    # --- weights

    async def _follow(self) -> None:
        """Load the newest published version if it is not the one we have."""
        record = await self._progress()
        if record.policy_version > self._weights.version:
            await self._load(record)

    async def _load(self, record: ProgressRecord) -> None:
        """Give the engine a version; heartbeat and leases go on meanwhile."""
        await self._watch.stop()  # the load has a deadline of its own
        try:
            await self._beating(self._weights.load(Path(record.published_path)))
        except VersionGone:
            newer = await self._progress()
            if newer.policy_version <= record.policy_version:
                raise
            await self._load(newer)
        self._presence.state = "ready"

    async def _beating(self, work: Coroutine[Any, Any, None]) -> None:
        limit_seconds = self._spec.learner.wait_seconds
        began = time.monotonic()
        task = asyncio.create_task(work)
        try:
            while not task.done():
                loading_seconds = time.monotonic() - began
                if loading_seconds > limit_seconds:
                    raise EngineBroken(f"loading weights took longer than {limit_seconds:.0f} s")
                if self._weights.version and self._engine.pid is None:
                    # A call to an engine that dies meanwhile may never be answered.
                    raise EngineBroken("the engine's process is gone")
                self._presence.loading(loading_seconds)
                await self._beat()
                if time.monotonic() > self._refreshed_at + REFRESH_SECONDS:
                    await self._refresh()
                await asyncio.wait({task}, timeout=POLL_SECONDS)
        finally:
            task.cancel()
        await task

    # --- what others see of us

    @property
    def _draining(self) -> bool:
        return self._drain_deadline is not None

    async def _progress(self) -> ProgressRecord:
        return await asyncio.to_thread(Progress(self._client).read, self._spec.job_id)

    async def _beat(self) -> bool:
        """The heartbeat, when it is due; says whether it was."""
        return await self._presence.beat(
            self._weights.version,
            engine_pid=self._engine.pid,
            groups_in_flight=len(self._running),
            tokens_total=self._tokens,
        )

    async def _refresh(self) -> None:
        self._refreshed_at = time.monotonic()
        await self._training.refresh()
        await self._evaluation.refresh()

    # --- the end

    async def _abandon(self) -> None:
        """Cancel the groups in work; their requests are aborted."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=ABORT_SECONDS)
        self._running.clear()

    async def _give_back(self) -> None:
        returned = await self._training.give_back() + await self._evaluation.give_back()
        log.info("groups_given_back", groups=returned)

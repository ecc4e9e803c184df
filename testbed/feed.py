"""Dispatcher, rollout worker and reward worker of one job in one thread, around an engine of `engines`.

They work only while the learner waits for its batch, so that a run follows from its seeds. Everything else is the
product's: how many groups may be issued (the guard's window included), numbers, streams, published weights.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.controller.issuing.capacity import capacity, paced
from services.job.spec import JobSpec, derived_seed
from services.records.worker import WorkerRecord
from services.store.client import Client
from services.store.job.registry import Registry
from services.trajectories import streams
from services.trajectories.codec import SCHEMA_VERSION, decode_group, encode, ints, read_ints
from services.trajectories.entries import PROMPTS, SCORED, TRAJECTORIES, Entry
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress, ProgressRecord
from services.trajectories.stage import Stage
from sspo_proto.trajectory_pb2 import PromptTask, Sampling
from testbed.engines import StudyEngine
from testbed.sampler import Question

POLL_SECONDS = 0.01
LEASE_SECONDS = 30.0
ENGINE = "engine"


class Feed:
    """`rows` are token ids [N, T] of questions with their answers, which begin at `start`."""

    def __init__(
        self,
        spec: JobSpec,
        client: Client,
        engine: StudyEngine,
        rows: Tensor,
        start: int,
        seen: Callable[[int, dict[str, Tensor]], None] = lambda step, tensors: None,
        neighbour: Callable[[], bool] = lambda: False,
    ) -> None:
        """`seen` is told of weights as the learner waits for their first batch: step and tensors. While `neighbour`
        says that another worker lives, half of every batch is left to it."""
        self._spec, self._client, self._engine, self._rows, self._start = spec, client, engine, rows, start
        self._seen, self._neighbour, self._taken = seen, neighbour, 0
        self._progress, self._ledger = Progress(client), Ledger(client)
        self._stage = Stage(client, spec.job_id, PROMPTS, SCORED, ENGINE)
        self._grading = Stage(client, spec.job_id, TRAJECTORIES, SCORED, "grader")
        self._registry = Registry(client)
        self._ended = threading.Event()
        self._told = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="feed")

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *about: Any) -> None:
        self._ended.set()
        self._thread.join(60)
        if self.error is not None:
            raise RuntimeError("the feed ended with an error") from self.error

    def _run(self) -> None:
        try:
            while not self._ended.wait(POLL_SECONDS):
                known = self._progress.read(self._spec.job_id)
                if known.phase == "waiting_for_batch" and known.policy_version:
                    self._serve(known)
        except BaseException as error:  # noqa: BLE001 — the thread's boundary: whoever leaves the block gets it
            self.error = error

    def _serve(self, known: ProgressRecord) -> None:
        self._engine.load(Path(known.published_path))
        newest = self._engine.newest
        if self._told != newest.version:
            self._told, self._taken = newest.version, 0
            self._register(newest.version)
            self._seen(newest.step, newest.tensors)
        self._dispatch(known)
        self._grade()
        entries = self._take()
        if not entries:
            return
        asked = [self._question(entry.number) for entry in entries]
        generator = torch.Generator().manual_seed(derived_seed(self._spec.seed, "draw", entries[0].number))
        for entry, group in zip(entries, self._engine.sample(asked, generator), strict=True):
            group.task.job_id, group.task.group_number = self._spec.job_id, entry.number
            group.task.issued_step = entry.step
            group.rollout_worker = ENGINE
            self._stage.hand_over(entry, encode(group), self._engine.used.step)

    def _register(self, version: int) -> None:
        """As rollout workers do with each heartbeat."""
        worker = WorkerRecord(
            id=ENGINE,
            kind="rollout",
            state="ready",
            policy_version=version,
            node="here",
            pid=os.getpid(),
            heartbeat=time.time(),
        )
        self._registry.put(self._spec.job_id, worker)

    def _take(self) -> list[Entry]:
        alone = not self._neighbour()
        most = self._spec.learner.batch_size // (1 if alone else 2)
        entries = self._stage.take_over(LEASE_SECONDS) if alone else []
        while (alone or self._taken < most) and (entry := self._stage.take()) is not None:
            entries.append(entry)
            self._taken += 1
        return entries

    def _grade(self) -> None:
        """What the neighbour sampled."""
        while (entry := self._grading.take()) is not None:
            group = decode_group(entry.payload)
            answer = self._question(entry.number).answer
            for trajectory in group.trajectories:
                right = read_ints(trajectory.completion_token_ids).tolist() == answer
                trajectory.reward.value = float(right)
            self._grading.hand_over(entry, encode(group), entry.step)

    def _dispatch(self, known: ProgressRecord) -> None:
        ledger = self._ledger.snapshot(self._spec.job_id)
        if self._progress.read(self._spec.job_id).next_step != known.published_step:
            return  # the batch was taken meanwhile: what is issued now would be sampled a step too early
        room = capacity(
            paced(self._spec.learner, known.staleness_window),
            next_step=known.next_step,
            published_step=known.published_step,
            trained=ledger.trained,
            in_flight=ledger.in_flight,
        ).groups
        first = streams.cursor(self._client, self._spec.job_id)
        missing = self._spec.learner.batch_size - ledger.in_flight
        for number in range(first, first + min(room, max(0, missing))):
            payload = encode(self._task(number, known.published_step))
            streams.dispatch(self._client, self._spec.job_id, number, payload, known.published_step)

    def _task(self, number: int, step: int) -> PromptTask:
        rollout = self._spec.rollout
        sampling = Sampling(
            temperature=rollout.temperature,
            max_tokens=rollout.max_tokens,
            group_size=rollout.group_size,
            seed=derived_seed(self._spec.seed, "sampling", number),
        )
        return PromptTask(
            schema_version=SCHEMA_VERSION,
            job_id=self._spec.job_id,
            group_number=number,
            prompt_token_ids=ints(self._question(number).prompt),
            item_json="{}",
            sampling=sampling,
            issued_step=step,
        )

    def _question(self, number: int) -> Question:
        row: list[int] = self._rows[derived_seed(self._spec.seed, "question", number) % len(self._rows)].tolist()
        return Question(row[: self._start], row[self._start :])

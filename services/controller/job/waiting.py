"""Finds what a running job waits for, from its learner, its workers and its streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.controller.issuing.capacity import Capacity, Limit
from services.records.worker import ScaledKind, WorkerRecord
from services.store.job.record import JobRecord
from services.store.job.waits import Wait, WaitKey
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.progress import ProgressRecord

LEARNER_PHASES = {
    "": Wait(WaitKey.LEARNER_START, "the learner to start"),
    "starting": Wait(WaitKey.LEARNER_LOAD, "the learner to load model and checkpoint"),
    "replaying": Wait(WaitKey.LEARNER_REPLAY, "the learner to replay its journal"),
    "training": Wait(WaitKey.TRAINING, "the learner to train the step"),
    "publishing": Wait(WaitKey.PUBLISHING, "the learner to publish weights"),
    "checkpointing": Wait(WaitKey.CHECKPOINT, "the learner to write a checkpoint"),
    "exporting": Wait(WaitKey.EXPORT, "the learner to export the model"),
    "finished": Wait(WaitKey.END, "evaluations and workers to end"),
}
REPLICAS: dict[ScaledKind, tuple[WaitKey, WaitKey]] = {
    "rollout": (WaitKey.ROLLOUT_REPLICAS, WaitKey.ROLLOUT_WORKERS),
    "reward": (WaitKey.REWARD_REPLICAS, WaitKey.REWARD_WORKERS),
}
"""Kind of worker -> the wait for a person to want some, and for those wanted to become ready."""


@dataclass(frozen=True)
class Situation:
    """Where a job is: its stage, and what it waits for there."""

    stage: str
    wait: Wait


def situation_of(
    job: JobRecord,
    progress: ProgressRecord,
    workers: Sequence[WorkerRecord],
    ledger: LedgerSnapshot,
    capacity: Capacity | None,
) -> Situation:
    """The situation of a running job; `capacity` is None while nothing is issued yet."""
    found = _situation(job, progress, workers, ledger)
    if capacity is None or not capacity.is_full(Limit.BYTES):
        return found
    separator = ", and" if ":" in found.wait.words else ":"
    limit = f"no more groups are issued above {job.spec.learner.max_queued_bytes} max_queued_bytes"
    return replace(found, wait=replace(found.wait, words=f"{found.wait.words}{separator} {limit}"))


def _situation(
    job: JobRecord, progress: ProgressRecord, workers: Sequence[WorkerRecord], ledger: LedgerSnapshot
) -> Situation:
    step = progress.next_step
    if progress.phase != "waiting_for_batch":
        wait = LEARNER_PHASES.get(progress.phase, Wait(WaitKey.LEARNER, progress.phase))
        return Situation(progress.phase or "starting", replace(wait, step=step))
    for kind, (person, ready) in REPLICAS.items():
        wanted = job.rollout_workers if kind == "rollout" else job.reward_workers
        up = sum(worker.kind == kind and worker.up for worker in workers)
        if wanted == 0 and up == 0:
            words = f"{kind} workers: replicas is 0; PUT /v1/x/jobs/{job.id}/{kind}_workers starts some"
            return Situation("sampling", Wait(person, words))
        if up == 0:
            return Situation("sampling", Wait(ready, f"{kind} workers to become ready (0 of {wanted})"))
    scored, batch = ledger.in_streams["scored"], job.spec.learner.batch_size
    words = f"a full batch for step {step}: {scored} of {batch} groups are scored"
    return Situation("sampling", Wait(WaitKey.BATCH, words, step))

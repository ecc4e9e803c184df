"""What a job waits for, in words: which stage it is in, and since when."""

from __future__ import annotations

from collections.abc import Sequence

from services.store.job.jobs import JobRecord
from services.store.job.registry import WorkerRecord
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.progress import ProgressRecord

LEARNER_PHASES = {
    "": "the learner to start",
    "starting": "the learner to load model and checkpoint",
    "replaying": "the learner to replay its journal",
    "training": "the learner to train the step",
    "publishing": "the learner to publish weights",
    "checkpointing": "the learner to write a checkpoint",
    "exporting": "the learner to export the model",
    "finished": "evaluations and workers to end",
}


def stage_of(
    job: JobRecord, progress: ProgressRecord, workers: Sequence[WorkerRecord], ledger: LedgerSnapshot, *, full: bool
) -> tuple[str, str]:
    """(stage, what is waited for) of a running job; `full`: no group is issued because too many bytes are queued."""
    stage, what = _stage_of(job, progress, workers, ledger)
    if full:
        separator = ", and" if ":" in what else ":"
        what += f"{separator} no more groups are issued above {job.spec.learner.max_queued_bytes} max_queued_bytes"
    return stage, what


def _stage_of(
    job: JobRecord, progress: ProgressRecord, workers: Sequence[WorkerRecord], ledger: LedgerSnapshot
) -> tuple[str, str]:
    if progress.phase != "waiting_for_batch":
        return progress.phase or "starting", LEARNER_PHASES.get(progress.phase, progress.phase)
    for kind, wanted in (("rollout", job.rollout_workers), ("reward", job.reward_workers)):
        up = sum(worker.kind == kind and worker.up for worker in workers)
        if wanted == 0 and up == 0:
            return "sampling", f"{kind} workers: replicas is 0; PUT /v1/x/jobs/{job.id}/{kind}_workers starts some"
        if up == 0:
            return "sampling", f"{kind} workers to become ready (0 of {wanted})"
    scored, wanted = ledger.in_streams["scored"], job.spec.learner.batch_size
    # What stands before the colon tells one wait from the next: every step begins a new one.
    return "sampling", f"a full batch for step {progress.next_step}: {scored} of {wanted} groups are scored"

"""What the API shows: records of the store as JSON objects of the OpenAI API, and our own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from services.records.outcomes import CheckpointRecord
from services.records.worker import WorkerRecord
from services.store.files import FileRecord
from services.store.job.events import Event
from services.store.job.jobs import JobRecord
from services.store.job.transitions import Status
from services.trajectories.dead.letters import Letter
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.stream_stats import StreamStats

STRICT_STATUS = {Status.PAUSED: Status.QUEUED, Status.PAUSING: Status.RUNNING}
"""What clients see that know no pause."""
RESOLVED = {"objective", "rollout", "learner", "reward", "evaluation", "guard", "sinks"}


def page(data: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """A list object."""
    ids = [item.get("id") for item in data]
    ends = {"first_id": ids[0], "last_id": ids[-1]} if ids else {"first_id": None, "last_id": None}
    return {"object": "list", "data": list(data), "has_more": has_more, **ends}


def file_view(record: FileRecord) -> dict[str, Any]:
    """A file object."""
    return {"object": "file", **record.model_dump(), "status": "processed", "status_details": None}


def job_view(record: JobRecord, *, strict_status: bool) -> dict[str, Any]:
    """A `fine_tuning.job` object; our own additions are `x_sspo`, and `x_state` where the status is translated."""
    request, spec = record.request, record.spec
    view = {
        "id": record.id,
        "object": "fine_tuning.job",
        "created_at": record.created_at,
        "finished_at": record.finished_at,
        "status": record.status.value,
        "model": spec.model,
        "fine_tuned_model": record.fine_tuned_model,
        "organization_id": "org-sspo",
        "training_file": spec.training_file,
        "validation_file": spec.validation_file,
        "result_files": record.result_files,
        "trained_tokens": record.trained_tokens,
        "estimated_finish": None,
        "seed": spec.seed,
        "error": record.error.model_dump() if record.error else None,
        "hyperparameters": {},
        "integrations": request.get("integrations"),
        "metadata": request.get("metadata"),
        "method": request["method"],
        "suffix": request.get("suffix"),
        "x_sspo": resolved_block(record),
    }
    if strict_status and record.status in STRICT_STATUS:
        view |= {"status": STRICT_STATUS[record.status].value, "x_state": record.status.value}
    return view


def resolved_block(record: JobRecord) -> dict[str, Any]:
    """The `x_sspo` block with every default filled in."""
    return record.spec.model_dump(include=RESOLVED)


def event_view(event: Event) -> dict[str, Any]:
    """A `fine_tuning.job.event` object."""
    return {"object": "fine_tuning.job.event", **event.model_dump()}


def checkpoint_view(record: JobRecord, checkpoint: CheckpointRecord) -> dict[str, Any]:
    """A `fine_tuning.job.checkpoint` object; every figure of the record but its path and time is a metric."""
    step = checkpoint.step
    return {
        "id": f"{checkpoint_prefix(record)}{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": f"{record.model_name}:ckpt-step-{step}",
        "fine_tuning_job_id": record.id,
        "step_number": step,
        "metrics": {name: value for name, value in checkpoint.plain().items() if name not in ("path", "created_at")},
    }


def checkpoint_prefix(record: JobRecord) -> str:
    """What a job's checkpoint ids begin with; the step follows."""
    return f"ftckpt-{record.id.removeprefix('ftjob-')}-"


def ledger_view(ledger: LedgerSnapshot) -> dict[str, Any]:
    """The ledger in groups."""
    return {**dataclasses.asdict(ledger), "missing": len(ledger.missing), "balanced": ledger.balanced}


def streams_view(stats: Mapping[str, StreamStats]) -> dict[str, Any]:
    """Stream -> what it holds. The unit is the entry: a group, or a dead letter."""
    return {name: dataclasses.asdict(stream) for name, stream in stats.items()}


def letter_view(letter: Letter) -> dict[str, Any]:
    """A dead letter without its payload."""
    return {"object": "x.dead_letter", **dataclasses.asdict(letter)}


def worker_view(worker: WorkerRecord) -> dict[str, Any]:
    """A worker as it says of itself. Its `detail` stays inside: it is for other processes."""
    return worker.model_dump(exclude={"detail"})

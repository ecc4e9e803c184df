"""A journaled step once more, offline: from files alone, without Redis and without Ray, and nothing is written.

From the newest checkpoint below the step (or the base model), each record is trained with the settings written in it.
The outcome is compared with what the learner left of the step: its figures, the digest of its weights, and the
checkpoint after it where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from services.disk.layout import JobFolder, Layout
from services.job.spec import JobSpec
from services.journal.journal import Header, Journal
from services.journal.lineage import surviving
from services.learner.errors import CheckpointDamaged
from services.learner.model.training import Training
from services.learner.recovery import checkpoint, result
from services.learner.recovery.checkpoint import Snapshot
from services.learner.recovery.restore import counts_in
from services.learner.recovery.result import StepResult
from services.trajectories.codec import decode_group


class CannotReplay(ValueError):
    """What is needed for the replay is not there; the message says what."""


@dataclass(frozen=True)
class Row:
    """One thing that is compared."""

    name: str
    journaled: object
    replayed: object

    @property
    def equal(self) -> bool:
        return result.same(self.journaled, self.replayed)


@dataclass(frozen=True)
class Replay:
    """What came of it."""

    header: Header
    start: int
    """Step of the checkpoint it began from; 0: the base model."""
    rows: list[Row]
    environment: list[Row] = field(default_factory=list)
    """Where then and now differ: versions, threads, device. Empty: nothing explains a difference."""

    @property
    def equal(self) -> bool:
        """Whether there was something to compare, and all of it is the same to the bit."""
        return bool(self.rows) and all(row.equal for row in self.rows)


def replay(layout: Layout, job_id: str, step: int, *, from_checkpoint: int | None = None) -> Replay:
    """Train the surviving record of `step` again and compare.

    Args:
        from_checkpoint: step of the checkpoint to begin from; 0: the base model; None: the newest at or below `step`.

    Raises CannotReplay, JournalDamaged, UnknownModel.
    """
    folder = layout.job(job_id)
    spec = _spec(folder)
    journal = Journal(folder.journal)
    headers = list(journal.headers())
    steps = surviving(headers)
    if not 0 <= step < len(steps):
        raise CannotReplay(f"step {step}: the journal of {job_id} has steps 0 to {len(steps) - 1}")
    counts = counts_in(headers)
    found = _start(folder, headers, step, from_checkpoint)
    start = found.state.next_step if found is not None else 0
    _refuse_pruned(journal, steps[start : step + 1], folder)
    training = Training(spec, layout.model(spec.model))
    if found is not None:
        training.load(found)
    for header in steps[start : step + 1]:
        groups = [decode_group(payload) for payload in journal.read(header.sequence).payloads]
        figures = training.train(header, groups)
    now = result.result_of(step, figures, training.policy.tensors(), digest=True)
    then = result.read(journal.result_path(steps[step].sequence))
    after = _load(checkpoint.folder_of(folder.checkpoints, step + 1))
    rows = _compare_results(then, now) if then is not None else []
    if after is not None and counts(after):
        rows += _compare_checkpoints(after, training.snapshot())
    changed = [
        Row(name, value, now.environment.get(name)) for name, value in (then.environment if then else {}).items()
    ]
    return Replay(steps[step], start, rows, [row for row in changed if not row.equal])


def _spec(folder: JobFolder) -> JobSpec:
    try:
        return JobSpec.model_validate_json(folder.spec.read_bytes())
    except FileNotFoundError as error:
        raise CannotReplay(f"{folder.spec} is missing: no learner of this job has run here") from error


def _start(folder: JobFolder, headers: Sequence[Header], step: int, wanted: int | None) -> Snapshot | None:
    counts = counts_in(headers)
    if wanted is None:
        return checkpoint.newest(
            folder.checkpoints, lambda found: counts(found) and found.state.next_step <= step, tidy=False
        )
    if wanted == 0:
        return None
    found = _load(checkpoint.folder_of(folder.checkpoints, wanted)) if wanted <= step else None
    if found is None or not counts(found):
        kept = [checkpoint.step_of(path) for path in checkpoint.stored(folder.checkpoints)]
        raise CannotReplay(f"checkpoint {wanted}: there are {kept}, and it must not be above step {step} nor damaged")
    return found


def _load(path: Path) -> Snapshot | None:
    try:
        return checkpoint.load(path)
    except CheckpointDamaged:
        return None


def _refuse_pruned(journal: Journal, needed: Sequence[Header], folder: JobFolder) -> None:
    if any(journal.is_pruned(header.sequence) for header in needed):
        oldest = min((checkpoint.step_of(path) for path in checkpoint.stored(folder.checkpoints)), default=0)
        raise CannotReplay(
            f"the groups of step {needed[-1].step} or of one before it were pruned; steps from {oldest} on can be "
            "replayed (learner.keep_checkpoints says how many checkpoints, and so how many steps, stay)"
        )


def _compare_results(then: StepResult, now: StepResult) -> list[Row]:
    rows = [Row(name, value, now.figures.get(name)) for name, value in sorted(then.figures.items())]
    if then.weights_sha256 is not None:
        rows.append(Row("weights_sha256", then.weights_sha256, now.weights_sha256))
    return rows


def _compare_checkpoints(saved: Snapshot, ours: Snapshot) -> list[Row]:
    """One row each for model and optimiser when they are equal, else one for every tensor that differs."""
    rows = _compare_tensors("checkpoint model", saved.model, ours.model)
    return rows + _compare_tensors("checkpoint optimiser", saved.optimiser, ours.optimiser)


def _compare_tensors(what: str, saved: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[Row]:
    rows = []
    for name in sorted(saved.keys() | ours.keys()):
        one, other = saved.get(name), ours.get(name)
        if one is None or other is None or one.shape != other.shape:
            rows.append(Row(f"{what}: {name}", _shape(one), _shape(other)))
        elif not torch.equal(_bits(one), _bits(other)):
            gap = float((one.double() - other.double()).abs().max())
            rows.append(Row(f"{what}: {name}", "", f"max abs difference {gap:.3g}"))
    return rows or [Row(what, f"{len(saved)} tensors", f"{len(ours)} tensors")]


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))

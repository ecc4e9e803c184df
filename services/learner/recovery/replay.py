"""Trains a journaled step once more, offline: from files alone, without Redis and Ray. Nothing is written.

From the newest checkpoint below the step (or the base model), each record is trained with the settings written in it.
The outcome is compared with what the learner left of the step: its figures, the digest of its weights, and the
checkpoint after it where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.disk.layout import JobFolder, Layout
from services.job.spec import JobSpec
from services.journal.journal import Journal
from services.journal.lineage import surviving
from services.journal.record import Header
from services.learner.backend import Backend
from services.learner.errors import CheckpointDamaged
from services.learner.recovery import checkpoint, result
from services.learner.recovery.checkpoint import Stored
from services.learner.recovery.restore import counts_in
from services.learner.recovery.result import StepResult
from services.learner.training import Training
from services.trajectories.codec import decode_group


class CannotReplay(ValueError):
    """Something that the replay needs is missing; the message says what."""


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
    """The outcome of a replay."""

    header: Header
    start: int
    """Step of the checkpoint it began from; 0: the base model."""
    rows: list[Row]
    environment: list[Row] = field(default_factory=list)
    """Differences of then and now: versions, threads, device. Empty: nothing explains another outcome."""

    @property
    def equal(self) -> bool:
        """Whether there was something to compare, and all of it is the same to the bit."""
        return bool(self.rows) and all(row.equal for row in self.rows)


def replay(
    layout: Layout,
    job_id: str,
    step: int,
    open_backend: Callable[[JobSpec, Layout], Backend],
    *,
    from_checkpoint: int | None = None,
) -> Replay:
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
    _refuse_pruned(journal, steps[step : step + 1], folder)
    counts = counts_in(headers)
    wanted = _wanted(folder, counts, step, from_checkpoint) if from_checkpoint else None
    training = Training(spec, open_backend(spec, layout))  # a large model takes minutes: what can be refused, is by now
    if wanted is not None:
        _load_wanted(training, wanted)
    elif from_checkpoint is None:
        _load_newest(training, folder, counts, step)
    start = training.step
    _refuse_pruned(journal, steps[start : step + 1], folder)
    for header in steps[start : step + 1]:
        groups = [decode_group(payload) for payload in journal.read(header.sequence).payloads]
        figures = training.train(header, groups)
    now = result.result_of(step, figures, training.backend, digest=True)
    then = result.read(journal.result_path(steps[step].sequence))
    rows = _compare_results(then, now) if then is not None else []
    rows += _compare_checkpoint(training, folder, counts, step + 1)
    changed = [
        Row(name, value, now.environment.get(name)) for name, value in (then.environment if then else {}).items()
    ]
    return Replay(steps[step], start, rows, [row for row in changed if not row.equal])


def _spec(folder: JobFolder) -> JobSpec:
    try:
        return JobSpec.model_validate_json(folder.spec.read_bytes())
    except FileNotFoundError as error:
        raise CannotReplay(f"{folder.spec} is missing: no learner of this job has run here") from error


def _wanted(folder: JobFolder, counts: Callable[[Stored], bool], step: int, wanted: int) -> Stored:
    """The checkpoint that was asked for."""
    try:
        found = checkpoint.look(checkpoint.folder_of(folder.checkpoints, wanted))
    except CheckpointDamaged:
        found = None
    if found is None or wanted > step or not counts(found):
        kept = [checkpoint.step_of(path) for path in checkpoint.stored(folder.checkpoints)]
        raise CannotReplay(f"checkpoint {wanted}: there are {kept}, and it must not be above step {step} nor damaged")
    return found


def _load_wanted(training: Training, wanted: Stored) -> None:
    try:
        training.load(wanted)
    except CheckpointDamaged as error:
        raise CannotReplay(f"checkpoint {wanted.state.next_step} is damaged: {error}") from error


def _load_newest(training: Training, folder: JobFolder, counts: Callable[[Stored], bool], step: int) -> None:
    """Load the newest checkpoint at or below the step; without one the replay begins from the base model."""
    checkpoint.load_newest(
        folder.checkpoints,
        lambda found: counts(found) and found.state.next_step <= step,
        training.load,
        tidy=False,
    )


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


def _compare_checkpoint(
    training: Training, folder: JobFolder, counts: Callable[[Stored], bool], step: int
) -> list[Row]:
    """Rows for the checkpoint with `step` steps; none where there is none that counts."""
    try:
        found = checkpoint.look(checkpoint.folder_of(folder.checkpoints, step))
        if not counts(found):
            return []
        compared = training.backend.compare(found.path, found.hashes)
    except CheckpointDamaged:
        return []
    return [Row(one.part, one.stored, one.here) for one in compared]

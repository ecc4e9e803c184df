"""Brings a backend forward record by record. A learner trains with it, and a replay repeats it.

Deterministic in (model, records): each record is trained with the settings written in it, not with the job's present
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from services.job.spec import JobSpec, LearnerSpec
from services.job.strict_json import JsonObject
from services.journal.errors import JournalDamaged
from services.journal.record import Header
from services.learner.backend import Backend
from services.learner.recovery.checkpoint import Snapshot, Stored
from services.records.step import StepFigures
from sspo_proto.trajectory_pb2 import Group


class Training:
    """Where one job's training is."""

    def __init__(self, spec: JobSpec, backend: Backend) -> None:
        self._spec = spec
        self.backend = backend
        self.sequence = -1
        """Record trained last; -1: none."""

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self.backend.state.next_step

    def load(self, found: Stored) -> None:
        """Continue from a checkpoint. Raises CheckpointDamaged, and ValueError for one of another model."""
        self.backend.load(found.path, found.hashes, found.state)
        self.sequence = found.sequence

    def snapshot(self) -> Snapshot:
        """A copy of everything that a checkpoint holds."""
        return Snapshot(self.backend.capture(), self.backend.state, self.sequence)

    def train(self, header: Header, groups: Sequence[Group]) -> StepFigures:
        """Train one record. Raises TrainingDiverged, OutOfMemory, JournalDamaged."""
        figures = self.backend.train(groups, header.step, settings_in_effect(self._spec, header.settings))
        self.sequence = header.sequence
        return figures


def settings_of(spec: JobSpec) -> JsonObject:
    """The settings that a record is trained with."""
    return {"learner": spec.learner.model_dump(), "objective": spec.objective}


def settings_in_effect(spec: JobSpec, settings: Mapping[str, object]) -> JobSpec:
    """The job with the settings of a record. Raises JournalDamaged for settings this version does not know."""
    try:
        learner = LearnerSpec.model_validate(settings["learner"])
    except ValidationError as error:
        raise JournalDamaged(f"settings: of another version of SSPO ({error.errors()[0]['loc']})") from error
    return spec.model_copy(update={"learner": learner, "objective": settings["objective"]})

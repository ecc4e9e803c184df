"""Policy and optimiser, brought forward record by record: what a learner trains with and a replay repeats.

Deterministic in (model, records): each record is trained with the settings that are written in it, not with those of
the job as it is now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from services.job.spec import JobSpec, LearnerSpec
from services.journal.errors import JournalDamaged
from services.journal.record import Header
from services.learner.model.policy import Policy
from services.learner.model.trainer import Trainer
from services.learner.recovery.checkpoint import Snapshot, host_copy
from sspo_proto.trajectory_pb2 import Group


class Training:
    """The state of one job's training in memory."""

    def __init__(self, spec: JobSpec, model: Path) -> None:
        torch.set_num_threads(spec.learner.threads)
        self.spec = spec
        self.policy = Policy(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.trainer = Trainer(spec, self.policy)
        self.sequence = -1
        """Record trained last; -1: none."""

    @property
    def step(self) -> int:
        """The step that comes next."""
        return self.trainer.state.next_step

    def load(self, found: Snapshot) -> None:
        """Continue from a checkpoint. Raises RuntimeError when it is of another model."""
        self.policy.load(found.model)
        self.trainer.load(found.optimiser, found.state)
        self.sequence = found.sequence

    def snapshot(self) -> Snapshot:
        """Copies of everything a checkpoint holds."""
        return Snapshot(
            model=host_copy(self.policy.tensors()),
            optimiser=host_copy(self.trainer.optimiser_tensors()),
            state=self.trainer.state,
            sequence=self.sequence,
        )

    def train(self, header: Header, groups: Sequence[Group]) -> dict[str, Any]:
        """Train one record and return its figures. Raises TrainingDiverged, JournalDamaged."""
        self._use(settings_in_effect(self.spec, header.settings))
        figures = self.trainer.train(groups, header.step)
        self.sequence = header.sequence
        return figures

    def _use(self, spec: JobSpec) -> None:
        if spec == self.spec:
            return
        before = self.trainer
        self.spec = spec
        torch.set_num_threads(spec.learner.threads)
        self.trainer = Trainer(spec, self.policy)
        self.trainer.load(before.optimiser_tensors(), before.state)


def settings_of(spec: JobSpec) -> dict[str, Any]:
    """What a record says of the settings it is trained with."""
    return {"learner": spec.learner.model_dump(), "objective": spec.objective}


def settings_in_effect(spec: JobSpec, settings: Mapping[str, Any]) -> JobSpec:
    """The job with the settings of a record. Raises JournalDamaged for settings this version does not know."""
    try:
        learner = LearnerSpec.model_validate(settings["learner"])
    except ValidationError as error:
        raise JournalDamaged(f"settings: of another version of SSPO ({error.errors()[0]['loc']})") from error
    return spec.model_copy(update={"learner": learner, "objective": settings["objective"]})

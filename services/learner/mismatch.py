"""The engine mismatch of a job whose rollouts run ahead: a group recomputed under the weights that sampled it.

If every token is trained a step or more after it was sampled, no bucket shows how engine and learner differ. So now and
then the learner keeps the weights it has just published. The first group that was sampled wholly under them is
recomputed with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.job.spec import LearnerSpec
from services.learner.backend import Backend
from services.records.drift import DriftFigures, Mismatch
from sspo_proto.trajectory_pb2 import Group

LOST_AFTER_STEPS = 2
"""Steps beyond the job's staleness after which no group of the kept weights can come."""


@dataclass(frozen=True)
class _Kept:
    version: int
    step: int


class MismatchProbe:
    """Knows the newest measurement, and measures anew every `learner.mismatch_probe_every` steps."""

    def __init__(self, spec: LearnerSpec, backend: Backend) -> None:
        self._spec = spec
        self._backend = backend
        self._kept: _Kept | None = None
        self._latest: Mismatch | None = None

    def published(self, version: int, step: int) -> None:
        """`version` are the backend's weights now, after `step` steps: keep them when a measurement is due."""
        if self._kept is not None and step - self._kept.step > self._spec.max_staleness + LOST_AFTER_STEPS:
            self._drop()
        if self._kept is None and self._is_due(step):
            self._kept = _Kept(version, step)
            self._backend.keep()

    def went_back(self) -> None:
        """Training was rolled back: no group of the weights that are kept is trained any more."""
        self._latest = None
        self._drop()

    def complete(self, drift: DriftFigures, groups: Sequence[Group], step: int) -> DriftFigures:
        """The figures of a step with the newest mismatch: its own, or that of the newest group recomputed."""
        if drift.mismatch is not None:
            self._latest = drift.mismatch.model_copy(update={"step": step})
            self._drop()
        elif (kept := self._kept) is not None:
            group = next((group for group in groups if _sampled_under(group) == kept.version), None)
            if group is not None:
                self._latest = Mismatch.of(self._backend.recompute(group), "probe", step)
                self._drop()
        return drift.with_mismatch(self._latest)

    def _is_due(self, step: int) -> bool:
        every = self._spec.mismatch_probe_every
        measured = self._latest.step if self._latest is not None else None
        return every > 0 and (measured is None or step - measured >= every)

    def _drop(self) -> None:
        self._kept = None
        self._backend.forget()


def _sampled_under(group: Group) -> int | None:
    """The one version of all tokens of a group; None when there are several."""
    versions = {span.version for trajectory in group.trajectories for span in trajectory.version_spans}
    return versions.pop() if len(versions) == 1 else None

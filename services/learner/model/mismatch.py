"""The engine mismatch of a job whose rollouts run ahead: a group recomputed under the weights that sampled it.

Where every token is trained at least a step after it was sampled, no bucket says what engine and learner differ in. So
now and then the weights just published are kept, and the first group that comes back sampled wholly under them is
recomputed with them. Invariant: the policy has the same bits before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.job.spec import JobSpec
from services.learner.model.drift_table import mismatch_of, with_mismatch
from services.learner.model.policy import Policy
from services.learner.model.tensors import micro_batches, sequences
from services.learner.recovery.checkpoint import host_copy
from sspo_core import RatioDiagnostics
from sspo_core.diagnostics.counts import surprise_counts
from sspo_proto.trajectory_pb2 import Group

LOST_AFTER_STEPS = 2
"""Beyond the job's staleness: no group of those weights comes any more."""


@dataclass(frozen=True)
class _Kept:
    version: int
    step: int
    tensors: dict[str, Tensor]


class MismatchProbe:
    """Keeps the newest measurement, and measures anew every `learner.mismatch_probe_every` steps."""

    def __init__(self, spec: JobSpec, policy: Policy) -> None:
        self._spec = spec
        self._policy = policy
        self._kept: _Kept | None = None
        self._latest: dict[str, Any] | None = None

    def published(self, version: int, step: int) -> None:
        """`version` are the policy's weights now, after `step` steps: keep a copy when a measurement is due."""
        every, learner = self._spec.learner.mismatch_probe_every, self._spec.learner
        if self._kept is not None and step - self._kept.step > learner.max_staleness + LOST_AFTER_STEPS:
            self._kept = None
        due = self._latest is None or step - self._latest["step"] >= every
        if every and due and self._kept is None:
            self._kept = _Kept(version, step, host_copy(self._policy.tensors()))

    def went_back(self) -> None:
        """Training was rolled back: no group of the weights that are kept is trained any more."""
        self._kept = self._latest = None

    def complete(self, drift: dict[str, Any], groups: Sequence[Group], step: int) -> dict[str, Any]:
        """The figures of a step with the newest mismatch: its own, or that of the newest group recomputed."""
        if drift["mismatch"] is not None:
            self._latest, self._kept = {**drift["mismatch"], "step": step}, None
        elif self._kept is not None:
            group = next((group for group in groups if _sampled_under(group) == self._kept.version), None)
            if group is not None:
                self._latest, self._kept = {**self._measure(group, self._kept), "step": step}, None
        return with_mismatch(drift, self._latest)

    @torch.no_grad()
    def _measure(self, group: Group, kept: _Kept) -> dict[str, Any]:
        current = host_copy(self._policy.tensors())
        diagnostics = RatioDiagnostics()
        rows = sequences(group, [0.0] * len(group.trajectories), kept.step)
        try:
            self._policy.load(kept.tensors)
            for batch in micro_batches(rows, self._spec.learner.tokens_per_microbatch, self._policy.layout):
                moved = batch.to(self._policy.device)
                logprobs, entropy = self._policy.logprobs(moved, self._spec.rollout.temperature, entropy=True)
                log_ratio = logprobs - moved.behaviour_logprobs
                diagnostics.add(log_ratio, moved.mask)
                if entropy is not None:
                    diagnostics.count(**surprise_counts(-logprobs - entropy, log_ratio, moved.mask))
        finally:
            self._policy.load(current)
        return mismatch_of(diagnostics.figures(), "probe")


def _sampled_under(group: Group) -> int | None:
    """The one version of all tokens of a group; None when there are several."""
    versions = {span.version for trajectory in group.trajectories for span in trajectory.version_spans}
    return versions.pop() if len(versions) == 1 else None

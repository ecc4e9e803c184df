"""Computes a group's tokens once more, under other weights than the policy has now.

Invariant: the policy has the same bits before and after.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from services.job.spec import JobSpec
from services.learner.model.policy import Policy
from services.learner.model.snapshot import host_copy
from services.learner.model.tensors import micro_batches, sequences
from services.records.ratios import RatioFigures
from services.trajectories.codec import oldest_step
from sspo_core import RatioDiagnostics
from sspo_core.diagnostics.counts import surprise_counts
from sspo_proto.trajectory_pb2 import Group


@torch.no_grad()
def recompute(policy: Policy, tensors: Mapping[str, Tensor], group: Group, spec: JobSpec) -> RatioFigures:
    """Figures of a group's completions under `tensors`, against the log-probs that came with the group."""
    current = host_copy(policy.tensors())
    diagnostics = RatioDiagnostics()
    rows = sequences(group, [0.0] * len(group.trajectories), oldest_step(group))
    try:
        policy.load(tensors)
        for batch in micro_batches(rows, spec.learner.tokens_per_microbatch, policy.layout):
            moved = batch.to(policy.device)
            logprobs, entropy = policy.logprobs(moved, spec.rollout.temperature, entropy=True)
            log_ratio = logprobs - moved.behaviour_logprobs
            diagnostics.add(log_ratio, moved.mask)
            if entropy is not None:
                diagnostics.count(**surprise_counts(-logprobs - entropy, log_ratio, moved.mask))
    finally:
        policy.load(current)
    return RatioFigures(**diagnostics.figures())

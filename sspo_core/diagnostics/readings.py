"""Readings of the tokens of one micro-batch, and its diagnostic state: of all sequences, and of every bucket.

Each sequence is counted once, in its bucket; the state of all is the merge of the buckets', which is exact. Nothing
here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from sspo_core.config import CorrectionConfig
from sspo_core.diagnostics.counts import (
    GateReadings,
    correction_counts,
    entropy_counts,
    gate_counts,
    ratio_counts,
    reference_counts,
    surprise_counts,
)
from sspo_core.diagnostics.ratio_diagnostics import State
from sspo_core.objectives.composition import Composition, Signal, Value
from sspo_core.objectives.corrections import Correction
from sspo_core.types import LossInputs


@dataclass(frozen=True)
class Readings:
    """All that is counted, detached; [B, T] but `rejected`, [B]. None: there is no such thing."""

    drift: Tensor
    mask: Tensor
    nonfinite: Tensor
    gate: GateReadings
    altered: Tensor
    rejected: Tensor | None
    importance: Tensor | None
    reference: Tensor | None
    entropy: Tensor | None
    surprise: Tensor | None

    def state(self) -> State:
        named = ratio_counts(self.drift, self.mask) | gate_counts(self.gate, self.mask)
        named["nonfinite_tokens"] = self.nonfinite.sum()
        if self.importance is not None:
            named |= correction_counts(self.importance, self.altered, self.mask)
        if self.rejected is not None:
            named |= {"rejected_sequences": self.rejected.sum(), "judged_sequences": named["sequences"]}
        if self.reference is not None:
            named |= reference_counts(self.reference, self.mask)
        if self.entropy is not None:
            named |= entropy_counts(self.entropy, self.mask)
        if self.surprise is not None:
            named |= surprise_counts(self.surprise, self.drift, self.mask)
        return State.of(named)

    def rows(self, rows: list[int]) -> Readings:
        """Of some of the sequences."""
        return self if len(rows) == len(self.mask) else _rows(self, rows)


@torch.no_grad()
def readings_of(
    inputs: LossInputs,
    composition: Composition,
    signal: Signal,
    value: Value,
    correction: Correction,
    corrections: CorrectionConfig,
) -> Readings:
    """Readings of the objective's inputs and effects."""
    ratios = signal.ratios
    per_sequence = composition.mean.per_sequence
    return Readings(
        drift=ratios.drift,
        mask=ratios.mask,
        nonfinite=ratios.nonfinite,
        gate=GateReadings(
            log_ratio=signal.ratio,
            weight=value.weight,
            h=value.h,
            update=value.applied if per_sequence else value.applied * torch.exp(-signal.ratio),
            applied=correction.weight * value.applied,
            advantages=signal.advantages,
        ),
        altered=correction.altered,
        rejected=correction.rejected if corrections.rejects else None,
        importance=correction.importance,
        reference=ratios.reference,
        entropy=inputs.entropy,
        surprise=None if inputs.entropy is None else -inputs.policy_logprobs.detach() - inputs.entropy,
    )


@torch.no_grad()
def by_bucket(readings: Readings, buckets: Sequence[int] | None) -> tuple[State, dict[int, State]]:
    """The state of all sequences, and of the sequences of every bucket."""
    if buckets is None:
        return readings.state(), {}
    rows = {bucket: [row for row, other in enumerate(buckets) if other == bucket] for bucket in sorted(set(buckets))}
    states = {bucket: readings.rows(chosen).state() for bucket, chosen in rows.items()}
    return reduce(State.merged, states.values()), states


def _rows(part: Any, rows: list[int]) -> Any:
    """Rows of every tensor of a dataclass, and of the dataclasses in it."""
    if part is None:
        return None
    if isinstance(part, Tensor):
        return torch.stack([part[row] for row in rows])  # an index tensor would have to be copied to the device
    return type(part)(**{field.name: _rows(getattr(part, field.name), rows) for field in fields(part)})

"""Makes a step record from the figures of the training."""

from __future__ import annotations

from services.journal.record import Header
from services.records.step import GuardView, StepFigures, StepRecord, StepWaits


def step_record(
    header: Header,
    figures: StepFigures,
    guard: GuardView,
    *,
    epoch: int,
    policy_version: int,
    seconds: float,
    waits: StepWaits | None = None,
    replayed: bool = False,
) -> StepRecord:
    """The record of a step; `waits` is None for a replay."""
    known = waits or StepWaits()
    waited = (known.batch or 0.0) + (known.staleness or 0.0) if waits is not None else None
    return StepRecord(
        **{name: getattr(figures, name) for name in figures.model_fields_set},
        step=header.step,
        time=header.written_at,
        replayed=replayed,
        groups=len(header.trained),
        wait_seconds=waited,
        seconds=seconds,
        waits=known,
        epoch=epoch,
        policy_version=policy_version,
        guard=guard,
    )

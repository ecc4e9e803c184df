"""Figures of training that a test decides."""

from __future__ import annotations

from typing import Any

import pytest

from services.learner.model.trainer import Trainer
from services.records.step import StepFigures


@pytest.fixture
def drifts(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Step → the k3 that its figures say, while the test lasts."""
    said: dict[int, float] = {}
    train = Trainer.train

    def told(self: Trainer, groups: Any, step: int) -> StepFigures:
        figures = train(self, groups, step)
        assert figures.drift is not None
        drift = figures.drift.model_copy(update={"kl_k3": said.get(step, 0.0)})
        return figures.model_copy(update={"drift": drift})

    monkeypatch.setattr(Trainer, "train", told)
    return said

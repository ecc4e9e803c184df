"""Figures of training that a test decides."""

from __future__ import annotations

from typing import Any

import pytest

from services.learner.model.trainer import Trainer


@pytest.fixture
def drifts(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Step → the k3 that its figures say, while the test lasts."""
    said: dict[int, float] = {}
    train = Trainer.train

    def told(self: Trainer, groups: Any, step: int) -> dict[str, Any]:
        figures = train(self, groups, step)
        figures["drift"]["kl_k3"] = said.get(step, 0.0)
        return figures

    monkeypatch.setattr(Trainer, "train", told)
    return said

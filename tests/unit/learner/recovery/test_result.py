"""Evidence of a step: what it gave, compared to the bit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.learner.recovery import result
from services.learner.recovery.result import DIGEST_BYTES, StepResult
from services.records.drift import DriftFigures
from services.records.step import StepFigures


class Weights:
    """A backend that notes how large weights may be to be hashed."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []

    def weights_sha256(self, *, most_bytes: int | None = None) -> str | None:
        self.asked.append(most_bytes)
        return "hash"

    def environment(self) -> dict[str, str | int]:
        return {"threads": 2}


BEFORE = StepResult(3, {"loss": 1.0, "grad_norm": math.nan}, "a")


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "00000003.out"
    assert result.read(path) is None
    for written in (StepResult(3, {"loss": 1.0, "grad_norm": None}, None, {"threads": 2}), StepResult(3, {}, "a")):
        result.write(path, written)
        assert result.read(path) == written
    assert list(tmp_path.iterdir()) == [path]
    for damaged in ("{", "[]", '{"step": 1}'):
        path.write_text(damaged)
        assert result.read(path) is None, "it is evidence only"


def test_a_steps_figures_are_kept_without_those_of_drift() -> None:
    weights: Any = Weights()
    figures = StepFigures(loss=0.5, updates=2, drift=DriftFigures(kl_k3=0.1))
    found = result.result_of(7, figures, weights, digest=False)
    assert (found.step, found.weights_sha256, found.environment) == (7, "hash", {"threads": 2})
    assert found.figures["loss"] == 0.5 and found.figures["updates"] == 2
    assert not [name for name in found.figures if "drift" in name or "kl" in name]
    result.result_of(7, figures, weights, digest=True)
    assert weights.asked == [DIGEST_BYTES, None], "large weights are hashed only where a checkpoint follows"


@pytest.mark.parametrize(
    ("after", "names"),
    [
        (BEFORE, []),
        (replace(BEFORE, figures={"loss": 1.0, "grad_norm": math.nan, "new": 3.0}), []),
        (replace(BEFORE, figures={"loss": 1.0 + 2e-16, "grad_norm": math.nan}), ["loss"]),
        (replace(BEFORE, figures={"loss": 1.0, "grad_norm": 0.0}), ["grad_norm"]),
        (replace(BEFORE, weights_sha256="b"), ["weights_sha256"]),
        (replace(BEFORE, weights_sha256=None), []),
    ],
)
def test_what_differs_is_named(after: StepResult, names: list[str]) -> None:
    assert result.differing(BEFORE, after) == names == result.differing(after, BEFORE)

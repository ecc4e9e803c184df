"""The drift study's rules and its faulty engines."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from benchmarks.drift_study.job import LEARNING_RATE, Outcome, spec_of
from benchmarks.drift_study.study import EXPECTED, INJECTED, MULTIPLIERS, SEEDS, collapsing, wanted
from testbed.engines import skewed


def result(run: str, seed: int, *, collapsed: bool = False) -> dict[str, Any]:
    return {"run": run, "seed": seed, "collapsed": collapsed}


def lr(multiplier: int, collapsed: int) -> list[dict[str, Any]]:
    return [result(f"lr-{multiplier}", seed, collapsed=place < collapsed) for place, seed in enumerate(SEEDS)]


def test_the_multiplier_is_the_smallest_at_which_all_seeds_collapse() -> None:
    assert collapsing([]) is None
    assert collapsing(lr(2, 0) + lr(4, 2)) is None
    assert collapsing(lr(2, 0) + lr(4, 3) + lr(8, 3)) == 4
    assert collapsing(lr(2, 0) + lr(4, 3)[:2]) is None, "not before all seeds have run"


def test_guarded_runs_have_the_learning_rate_of_the_collapse() -> None:
    results: list[dict[str, Any]] = []
    ran = []
    for run in wanted(lambda: results):
        ran.append(run)
        results.append(result(run.name, run.seed, collapsed=run.learning_rate >= 8 * LEARNING_RATE and not run.guard))
    names = list(dict.fromkeys(run.name for run in ran))
    assert names == ["calm", "lr-2", "lr-4", "lr-8", "lr-8-guarded", *(run.name for run in INJECTED)]
    guarded = [run for run in ran if run.guard]
    assert [run.seed for run in guarded] == list(SEEDS)
    assert all(spec_of(run).guard.actions[-1] == "pause" for run in guarded)
    assert all(run.learning_rate == 8 * LEARNING_RATE for run in guarded) and 8 in MULTIPLIERS
    assert set(EXPECTED) == {run.name for run in INJECTED}


@pytest.mark.parametrize(("curve", "collapsed"), [([0.5, 0.6, 0.31], False), ([0.5, 0.6, 0.29], True), ([], False)])
def test_a_run_has_collapsed_below_half_of_its_best(curve: list[float], collapsed: bool) -> None:
    outcome = Outcome("a", 1, "finished", list(enumerate(curve)), [], [], 0, {}, [], 1.0)
    assert outcome.collapsed == collapsed


def test_a_truncation_keeps_the_smallest_set_with_its_mass() -> None:
    log_p = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.05, 0.05, 0.85]]).log()
    kept = skewed(log_p, 0.8).exp()
    torch.testing.assert_close(kept, torch.tensor([[0.625, 0.375, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
    assert skewed(log_p, 1.0) is log_p and math.isclose(float(kept.sum()), 2.0, rel_tol=1e-6)

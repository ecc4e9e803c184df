"""A short, seeded run of the chaos harness: what belongs to every change. `make chaos` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import SHORT, Action, plan
from tests.chaos.run import Run
from tests.chaos.target import Target

SEED = 20


@pytest.mark.system
@pytest.mark.timeout(420)
def test_a_job_under_chaos_loses_nothing(tmp_path: Path) -> None:
    report = Run(Target(tmp_path), seed=SEED, steps=60, minutes=5).go(plan(SEED, templates=SHORT), jobs=1)
    assert report.violations == []
    assert len(report.wounds) == len(SHORT)
    assert sum(report.hits.values()) == sum(event.action is Action.FAULT for event in SHORT)
    assert all(job.finding.steps == 60 and not job.finding.dropped for job in report.jobs)

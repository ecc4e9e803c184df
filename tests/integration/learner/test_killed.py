"""The same groups into a learner that nobody disturbs, and into one that is killed three times: the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.job.spec import JobSpec
from services.learner.opening import open_learner
from services.store.client import Client
from tests.chaos.plan import Victim
from tests.chaos.points import FOLDER, Points
from tests.support.audit import audit
from tests.support.learning import assert_ledger, exported, fill, layout_with_model, same_bits, sample_groups
from tests.support.tiny import job_spec

STEPS = 4


@pytest.mark.timeout(240)
def test_three_kills_leave_the_same_bits(client: Client, redis_url: str, tmp_path: Path) -> None:
    layout = layout_with_model(tmp_path / "data")
    groups = sample_groups(tmp_path / "groups", 2 * STEPS)
    calm, hit = (
        job_spec(f"ftjob-{name}", steps=STEPS, updates_per_step=2, max_staleness=STEPS) for name in ("calm", "hit")
    )
    for spec in (calm, hit):
        fill(client, spec, groups)
    assert open_learner(calm, client, layout).run() == "finished"

    points = Points(tmp_path / "faults")

    def learn(spec: JobSpec) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.support.learn", str(layout.root), redis_url, spec.model_dump_json()]
        environment = {**os.environ, FOLDER: str(points.folder)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90)

    for point, passes in (("learner.after_link", 0), ("learner.after_finish", 1), ("learner.during_publish", 1)):
        armed = points.arm(point, Victim.ENGINE, after=passes)  # the engine's mark fits any process
        done = learn(hit)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert points.hit(armed) is not None
    done = learn(hit)
    assert done.stdout.splitlines()[-1] == "finished", done.stderr
    assert same_bits(exported(layout, calm), exported(layout, hit))
    report = audit(layout.job(hit.job_id).journal)
    assert report.clean and (report.steps, report.trained) == (STEPS, 2 * STEPS)
    assert_ledger(client, hit, trained=2 * STEPS)

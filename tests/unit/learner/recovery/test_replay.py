"""A journaled step once more, offline: the same bits, or what differs by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.job.spec import JobSpec
from services.learner.recovery.replay import CannotReplay, Replay, replay
from services.store.client import Client
from tests.support.numbered import JOB, Job, Number


@pytest.fixture
def job(client: Client, tmp_path: Path) -> Job:
    """A job of four steps that has finished, with checkpoints of 2 and 4."""
    made = Job(client, tmp_path, learner={"keep_checkpoints": 9})
    assert made.learner().run() == "finished"
    return made


def again(job: Job, step: int, model: Number | None = None, **options: Any) -> Replay:
    def opened(spec: JobSpec, layout: object) -> Any:
        assert spec == job.spec
        return model or Number()

    return replay(job.layout, JOB, step, opened, **options)


@pytest.mark.parametrize("step", range(4))
def test_every_step_gives_the_same_bits_from_the_newest_checkpoint_below_it(job: Job, step: int) -> None:
    found = again(job, step)
    assert found.equal and found.header.step == step and found.environment == []
    assert found.start == (2 if step >= 2 else 0)
    assert {"weights_sha256", "loss"} <= {row.name for row in found.rows}
    assert again(job, step, from_checkpoint=0).start == 0 and again(job, step, from_checkpoint=0).equal


def test_what_differs_is_named(job: Job) -> None:
    other = Number()
    other.weight = "another base"
    found = again(job, 1, other)
    assert not found.equal
    assert [row.name for row in found.rows if not row.equal] == ["weights_sha256"]


def test_where_there_is_nothing_to_compare_nothing_is_proven(job: Job) -> None:
    for path in job.folder.journal.glob("*.out"):
        path.unlink()
    found = again(job, 0)
    assert found.rows == [] and not found.equal


def test_what_is_needed_and_not_there_is_said(job: Job) -> None:
    for step in (-1, 4):
        with pytest.raises(CannotReplay, match="has steps 0 to 3"):
            again(job, step)
    for wanted in (1, 4):
        with pytest.raises(CannotReplay, match=rf"checkpoint {wanted}: there are \[2, 4\]"):
            again(job, 3, from_checkpoint=wanted)
    job.folder.spec.unlink()
    with pytest.raises(CannotReplay, match="no learner of this job has run here"):
        again(job, 0)


def test_steps_whose_groups_were_pruned_are_refused(client: Client, tmp_path: Path) -> None:
    job = Job(client, tmp_path, learner={"keep_checkpoints": 1})
    job.learner().run()
    with pytest.raises(CannotReplay, match=r"pruned; steps from 4 on can be replayed"):
        again(job, 2)

"""A journaled step once more, offline: the same bits, or what differs by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from services.disk.layout import JobFolder, Layout
from services.job.spec import JobSpec
from services.learner.loop import Learner
from services.learner.recovery.replay import CannotReplay, Replay, replay
from services.store.client import Client
from tests.support.fake_backend import FakeBackend
from tests.unit.learner.conftest import JOB, Fill, spec_of


@dataclass(frozen=True)
class Job:
    """One that has finished, of four steps."""

    layout: Layout
    spec: JobSpec

    @property
    def folder(self) -> JobFolder:
        return self.layout.job(JOB)


def finished(client: Client, layout: Layout, fill: Fill, **learner: Any) -> Job:
    spec = spec_of(**learner)
    fill(spec, range(8))
    assert Learner(spec, client, layout, FakeBackend()).run() == "finished"
    return Job(layout, spec)


@pytest.fixture
def job(client: Client, layout: Layout, fill: Fill) -> Job:
    """With checkpoints of 2 and 4."""
    return finished(client, layout, fill, keep_checkpoints=9)


def again(job: Job, step: int, model: FakeBackend | None = None, **options: Any) -> Replay:
    def opened(spec: JobSpec, layout: object) -> FakeBackend:
        assert spec == job.spec
        return model or FakeBackend()

    return replay(job.layout, JOB, step, opened, **options)


@pytest.mark.parametrize("step", range(4))
def test_every_step_gives_the_same_bits_from_the_newest_checkpoint_below_it(job: Job, step: int) -> None:
    found = again(job, step)
    assert found.equal and found.header.step == step and found.environment == []
    assert found.start == (2 if step >= 2 else 0)
    assert {"weights_sha256", "loss"} <= {row.name for row in found.rows}
    assert again(job, step, from_checkpoint=0).start == 0 and again(job, step, from_checkpoint=0).equal


def test_what_differs_is_named(job: Job) -> None:
    other = FakeBackend()
    other.weights = 3.0  # another base model
    found = again(job, 1, other)
    assert not found.equal
    assert {"loss", "weights_sha256"} <= {row.name for row in found.rows if not row.equal}


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


def test_steps_whose_groups_were_pruned_are_refused(client: Client, layout: Layout, fill: Fill) -> None:
    job = finished(client, layout, fill, keep_checkpoints=1)
    with pytest.raises(CannotReplay, match=r"pruned; steps from 4 on can be replayed"):
        again(job, 2)


def test_what_can_be_refused_is_refused_before_a_model_is_loaded(client: Client, layout: Layout, fill: Fill) -> None:
    job = finished(client, layout, fill, keep_checkpoints=1)

    def loads(spec: JobSpec, layout: Layout) -> FakeBackend:
        raise AssertionError("a large model takes minutes")

    for step, wanted in ((2, None), (3, 2), (9, None)):
        with pytest.raises(CannotReplay):
            replay(job.layout, JOB, step, loads, from_checkpoint=wanted)


def test_a_damaged_checkpoint_that_was_asked_for_is_refused(job: Job) -> None:
    (job.folder.checkpoints / "step-00000002" / "weights.json").write_text("7.0")
    with pytest.raises(CannotReplay, match="checkpoint 2 is damaged"):
        again(job, 3, from_checkpoint=2)

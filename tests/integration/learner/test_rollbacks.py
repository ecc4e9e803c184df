"""Rollbacks: the checkpoint's weights are back, what was undone is dropped, and a restart follows what survived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.disk.layout import Layout
from services.journal.journal import Journal
from services.learner.errors import NoSuchCheckpoint
from services.learner.loop import Learner
from services.learner.model import snapshot as tensors_of
from services.learner.model.local import weights_sha256
from services.learner.opening import open_learner
from services.learner.recovery import checkpoint
from services.learner.recovery.books import Books
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.steps import Steps
from services.trajectories.progress import Progress
from services.trajectories.tallies import Tallies
from services.weights.file_store import read_manifest
from tests.support.audit import audit
from tests.support.learning import (
    assert_ledger,
    exported,
    fill,
    flip,
    same_bits,
    single,
)

pytestmark = pytest.mark.timeout(120)


class Rollback:
    """Rolls a learner back once, between two steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, at: int, to: int) -> None:
        self.after: str | None = None
        one_step = Learner.one_step

        def patched(learner: Learner) -> None:
            if learner.step == at and not self.after:
                learner.returning.roll_back(to)
                self.after = learner.parts.backend.weights_sha256()
            one_step(learner)

        monkeypatch.setattr(Learner, "one_step", patched)


def test_a_rollback_gives_the_checkpoint_back_and_the_ledger_adds_up(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=4)
    fill(client, spec, groups[:5])
    rollback = Rollback(monkeypatch, at=3, to=2)
    folder = layout.job(spec.job_id)
    publishes: list[tuple[int, int]] = []
    publish = Progress.publish

    def noted(self: Progress, job_id: str, **fields: Any) -> None:
        publishes.append((fields["version"], fields["step"]))
        publish(self, job_id, **fields)

    monkeypatch.setattr(Progress, "publish", noted)
    assert open_learner(spec, client, layout).run() == "finished"
    saved = checkpoint.look(folder.checkpoints / "step-00000002")
    assert weights_sha256(tensors_of.read(saved.path, saved.hashes).model) == rollback.after
    assert publishes == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 2), (6, 3), (7, 4)]
    assert read_manifest(Path(Progress(client).read(spec.job_id).published_path)).step == 4
    assert_ledger(client, spec, trained=4, rolled_back=1)
    report = audit(folder.journal)
    assert report.clean and (report.steps, report.dropped) == (4, {"rolled_back": 1})
    assert [record.step for record in Steps(client, layout).since(spec.job_id)] == [0, 1, 2, 3]
    assert Tallies(client).read(spec.job_id).wasted_tokens == {"rolled_back": 24}, "four completions of six tokens"
    text = "Training was rolled back to step 2; 1 groups are dropped as rolled_back"
    assert text in [event.message for event in Events(client).list(spec.job_id)[0]]


def test_a_restart_after_a_rollback_follows_the_lineage_that_survived(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=4, checkpoint_every=1, keep_checkpoints=4)
    fill(client, spec, groups[:6])
    with monkeypatch.context() as patched:
        Rollback(patched, at=3, to=1)
        open_learner(spec, client, layout).run()
    folder = layout.job(spec.job_id)
    expected = exported(layout, spec)
    for path in checkpoint.stored(folder.checkpoints)[1:]:
        flip(path / "model.safetensors")
    assert open_learner(spec, client, layout).run() == "finished"
    assert same_bits(exported(layout, spec), expected)
    assert_ledger(client, spec, trained=4, rolled_back=2)


def test_a_learner_that_dies_right_after_the_rollback_record_uses_no_undone_checkpoint(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=4, checkpoint_every=1, keep_checkpoints=4)
    fill(client, spec, groups[:6])

    assert_training = Books.assert_training

    def dies(self: Books) -> None:
        if self.outlines and self.outlines[-1].kind == "rollback":
            raise KeyboardInterrupt("killed")
        assert_training(self)

    with monkeypatch.context() as patched:
        Rollback(patched, at=3, to=1)
        patched.setattr(Books, "assert_training", dies)
        with pytest.raises(KeyboardInterrupt):
            open_learner(spec, client, layout).run()
    folder = layout.job(spec.job_id)
    assert [header.kind for header in Journal(folder.journal).headers()][-1] == "rollback"
    learner = open_learner(spec, client, layout)
    assert learner.run() == "finished"
    assert_ledger(client, spec, trained=4, rolled_back=2)
    assert audit(folder.journal).steps == 4


def test_a_rollback_needs_a_checkpoint(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single()
    fill(client, spec, groups[:6])
    Rollback(monkeypatch, at=3, to=1)
    with pytest.raises(NoSuchCheckpoint, match=r"step 1 of 3: checkpoints are kept of steps \[2\]"):
        open_learner(spec, client, layout).run()
    assert audit(layout.job(spec.job_id).journal).steps == 3

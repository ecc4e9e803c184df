"""Damage, rollbacks and records that kill: a learner always comes to the state its journal tells, or says why not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from services.controller.issuing.capacity import capacity
from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.journal.errors import JournalDamaged
from services.journal.journal import Journal, audit
from services.learner.errors import AttemptFailed, DiskFull, NoSuchCheckpoint, TooManySkips
from services.learner.loop import Learner
from services.learner.model.trainer import Trainer
from services.learner.recovery import checkpoint
from services.learner.recovery.books import Books
from services.learner.recovery.retention import Retention
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.steps import Checkpoints, Steps
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from services.trajectories.tallies import Tallies
from services.weights.file_store import read_manifest
from tests.support.learning import (
    assert_ledger,
    exported,
    fill,
    put,
    renamed,
    same_bits,
)
from tests.support.tiny import job_spec

pytestmark = pytest.mark.timeout(120)


def single(job_id: str = "ftjob-1", **learner: Any) -> JobSpec:
    """Six steps of one group each, a checkpoint after every second, the newest two kept."""
    settings = {"steps": 6, "batch_size": 1, "checkpoint_every": 2, "keep_checkpoints": 2, "max_staleness": 9}
    return job_spec(job_id, **{**settings, **learner})


# --- checkpoints


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_checkpoint_costs_a_longer_replay_and_nothing_else(
    client: Client, layout: Layout, groups: list[bytes]
) -> None:
    spec = single()
    fill(client, spec, groups[:6])
    Learner(spec, client, layout).run()
    folder = layout.job(spec.job_id)
    expected = exported(layout, spec)
    damages: list[tuple[str, Callable[[Path], Any]]] = [
        ("model.safetensors", _flip),
        ("optimiser.safetensors", _truncate),
        ("checkpoint.json", Path.unlink),
    ]
    for name, damage in damages:
        damage(folder.checkpoints / "step-00000006" / name)
        assert Learner(spec, client, layout).run() == "finished"
        assert same_bits(exported(layout, spec), expected)
        assert [record["step"] for record in Checkpoints(client).list(spec.job_id)] == [4, 6]
    replayed = {record["step"]: record["replayed"] for record in Steps(client, layout).since(spec.job_id)}
    assert replayed == {0: False, 1: False, 2: False, 3: False, 4: True, 5: True}
    assert audit(folder.journal).clean


def test_without_any_checkpoint_and_with_pruned_records_it_says_so(
    client: Client, layout: Layout, groups: list[bytes]
) -> None:
    spec = single()
    fill(client, spec, groups[:6])
    Learner(spec, client, layout).run()
    for path in checkpoint.stored(layout.job(spec.job_id).checkpoints):
        _flip(path / "model.safetensors")
    with pytest.raises(JournalDamaged, match=r"00000000\.rec were pruned.*from a backup"):
        Learner(spec, client, layout).run()


def test_a_lost_tail_of_the_journal_is_never_a_fresh_start(client: Client, layout: Layout, groups: list[bytes]) -> None:
    spec = single()
    fill(client, spec, groups[:6])
    Learner(spec, client, layout).run()
    (layout.job(spec.job_id).journal / "00000005.rec").unlink()
    with pytest.raises(JournalDamaged, match="Redis knows of 6 records and 6 steps, the journal holds 5 and 5"):
        Learner(spec, client, layout).run()
    client.flushdb()
    fill(client, spec, [])
    with pytest.raises(JournalDamaged, match="newest checkpoint has 6 steps and the journal only 5"):
        Learner(spec, client, layout).run()


def test_training_goes_on_while_a_slow_disk_writes_and_the_last_checkpoint_is_awaited(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(checkpoint_every=3)
    fill(client, spec, groups[:6])
    save = Retention.save
    seen: list[tuple[int, int]] = []

    def slow(self: Retention, snapshot: checkpoint.Snapshot) -> Path:
        deadline = time.monotonic() + 20
        while snapshot.state.next_step == 3 and learner.step < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append((snapshot.state.next_step, learner.step))
        assert not Checkpoints(client).list(spec.job_id) or snapshot.state.next_step == 6
        return save(self, snapshot)

    monkeypatch.setattr(Retention, "save", slow)
    learner = Learner(spec, client, layout)
    assert learner.run() == "finished"
    assert seen[0][0] == 3 and seen[0][1] >= 5, "two more steps were trained meanwhile"
    assert [record["step"] for record in Checkpoints(client).list(spec.job_id)] == [3, 6]
    found = checkpoint.load(layout.job(spec.job_id).checkpoints / "step-00000003")
    assert found.state.next_step == 3, "what later steps did is not in it"


def test_a_disk_that_fills_up_fails_the_job_with_the_way_out_and_it_resumes(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single()
    fill(client, spec, groups[:6])

    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", full)
        with pytest.raises(DiskFull, match=r"no space for a checkpoint.*then resume the job") as caught:
            Learner(spec, client, layout).run()
    assert caught.value.code == "disk_full" and Checkpoints(client).list(spec.job_id) == []
    assert Learner(spec, client, layout).run() == "finished"
    assert_ledger(client, spec, trained=6)


# --- rollback


class Rollback:
    """Rolls a learner back once, between two steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, at: int, to: int) -> None:
        self.after: dict[str, torch.Tensor] = {}
        one_step = Learner._one_step

        def patched(learner: Learner) -> None:
            if learner.step == at and not self.after:
                learner.rollback(to)
                self.after = {name: tensor.clone() for name, tensor in learner._training.policy.tensors().items()}
            one_step(learner)

        monkeypatch.setattr(Learner, "_one_step", patched)


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
    assert Learner(spec, client, layout).run() == "finished"
    assert same_bits(checkpoint.load(folder.checkpoints / "step-00000002").model, rollback.after)
    assert publishes == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 2), (6, 3), (7, 4)]
    assert read_manifest(Path(Progress(client).read(spec.job_id).published_path)).step == 4
    assert_ledger(client, spec, trained=4, rolled_back=1)
    report = audit(folder.journal)
    assert report.clean and (report.steps, report.dropped) == (4, {"rolled_back": 1})
    assert [record["step"] for record in Steps(client, layout).since(spec.job_id)] == [0, 1, 2, 3]
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
        Learner(spec, client, layout).run()
    folder = layout.job(spec.job_id)
    expected = exported(layout, spec)
    for path in checkpoint.stored(folder.checkpoints)[1:]:
        _flip(path / "model.safetensors")
    assert Learner(spec, client, layout).run() == "finished"
    assert same_bits(exported(layout, spec), expected)
    assert_ledger(client, spec, trained=4, rolled_back=2)


def test_a_learner_that_dies_right_after_the_rollback_record_uses_no_undone_checkpoint(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=4, checkpoint_every=1, keep_checkpoints=4)
    fill(client, spec, groups[:6])

    assert_training = Books.assert_training

    def dies(self: Books) -> None:
        if self.headers and self.headers[-1].kind == "rollback":
            raise KeyboardInterrupt("killed")
        assert_training(self)

    with monkeypatch.context() as patched:
        Rollback(patched, at=3, to=1)
        patched.setattr(Books, "assert_training", dies)
        with pytest.raises(KeyboardInterrupt):
            Learner(spec, client, layout).run()
    folder = layout.job(spec.job_id)
    assert [header.kind for header in Journal(folder.journal).headers()][-1] == "rollback"
    learner = Learner(spec, client, layout)
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
        Learner(spec, client, layout).run()
    assert audit(layout.job(spec.job_id).journal).steps == 3


# --- records that kill


def poisoned(monkeypatch: pytest.MonkeyPatch, numbers: set[int], error: BaseException) -> None:
    """Training a batch with one of these numbers ends the learner, as if by itself."""
    train = Trainer.train

    def patched(self: Trainer, batch: Any, step: int) -> dict[str, Any]:
        if numbers & {group.task.group_number for group in batch}:
            raise error
        return train(self, batch, step)

    monkeypatch.setattr(Trainer, "train", patched)


@pytest.mark.parametrize(
    ("error", "raised", "cause"),
    [
        (KeyboardInterrupt("killed"), KeyboardInterrupt, "killed"),
        (torch.OutOfMemoryError("CUDA out of memory"), AttemptFailed, "out_of_memory"),
    ],
)
def test_a_record_that_kills_its_learner_three_times_is_skipped_and_the_job_makes_all_its_steps(
    client: Client,
    layout: Layout,
    groups: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
    cause: str,
) -> None:
    spec = job_spec(max_staleness=9)  # three steps of two groups
    fill(client, spec, groups[:6])
    poisoned(monkeypatch, {3}, error)
    for _ in range(3):
        with pytest.raises(raised):
            Learner(spec, client, layout).run()
    learner = Learner(spec, client, layout)
    threading.Timer(4.0, learner.stop).start()
    assert learner.run() == "drained"
    assert learner.step == 2
    assert_ledger(client, spec, trained=4, poison=2)
    issued = capacity(
        spec.learner, next_step=2, published_step=2, trained=Ledger(client).snapshot(spec.job_id).trained, in_flight=0
    )
    assert issued == 2, "one more batch, for the one that was lost"
    put(client, spec, {number: renamed(groups[number], spec.job_id, number) for number in (6, 7)})
    assert Learner(spec, client, layout).run() == "finished"
    assert_ledger(client, spec, trained=6, poison=2)
    report = audit(layout.job(spec.job_id).journal)
    assert report.clean and (report.steps, report.trained, report.dropped) == (3, 6, {"poison": 2})
    events = [event.message for event in Events(client).list(spec.job_id, limit=100)[0]]
    assert (
        f"The batch of step 1 ended 3 learners ({', '.join([cause] * 3)}): its 2 groups are dropped as poison" in events
    )
    assert not list(layout.job(spec.job_id).journal.glob("*.attempt.*"))


def test_an_old_record_that_kills_in_a_replay_takes_the_later_ones_with_it(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=5, checkpoint_every=9)
    fill(client, spec, groups[:4])
    learner = Learner(spec, client, layout)
    threading.Timer(3.0, learner.stop).start()
    assert learner.run() == "drained" and learner.step == 4
    for path in checkpoint.stored(layout.job(spec.job_id).checkpoints):
        _flip(path / "state.json")
    poisoned(monkeypatch, {1}, KeyboardInterrupt())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            Learner(spec, client, layout).run()
    put(client, spec, {number: renamed(groups[number], spec.job_id, number) for number in range(4, 8)})
    assert Learner(spec, client, layout).run() == "finished"
    assert_ledger(client, spec, trained=5, poison=1, rolled_back=2)
    assert audit(layout.job(spec.job_id).journal).clean


def test_when_every_record_kills_the_job_fails_with_the_cause_and_a_resume_tries_again(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=4)
    fill(client, spec, groups[:8])
    with monkeypatch.context() as patched:
        poisoned(patched, set(range(8)), MemoryError())
        for _ in range(12):
            with pytest.raises(AttemptFailed):
                Learner(spec, client, layout).run()
        with pytest.raises(TooManySkips, match="it is not the records") as caught:
            Learner(spec, client, layout).run()
        assert caught.value.code == "out_of_memory"
    assert Learner(spec, client, layout).run() == "finished", "with more memory"
    report = audit(layout.job(spec.job_id).journal)
    assert (report.trained, report.dropped) == (4, {"poison": 3})

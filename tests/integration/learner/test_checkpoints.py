"""Damage and full disks: a learner comes to the state its journal tells, or says why not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.disk.layout import Layout
from services.journal.errors import JournalDamaged
from services.learner.errors import DiskFull
from services.learner.opening import open_learner
from services.learner.recovery import checkpoint
from services.learner.recovery.retention import Retention
from services.store.client import Client
from services.store.job.steps import Checkpoints, Steps
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


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_checkpoint_costs_a_longer_replay_and_nothing_else(
    client: Client, layout: Layout, groups: list[bytes]
) -> None:
    spec = single()
    fill(client, spec, groups[:6])
    open_learner(spec, client, layout).run()
    folder = layout.job(spec.job_id)
    expected = exported(layout, spec)
    damages: list[tuple[str, Callable[[Path], Any]]] = [
        ("model.safetensors", flip),
        ("optimiser.safetensors", _truncate),
        ("checkpoint.json", Path.unlink),
    ]
    for name, damage in damages:
        damage(folder.checkpoints / "step-00000006" / name)
        assert open_learner(spec, client, layout).run() == "finished"
        assert same_bits(exported(layout, spec), expected)
        assert [record.step for record in Checkpoints(client).list(spec.job_id)] == [4, 6]
    replayed = {record.step: record.replayed for record in Steps(client, layout).since(spec.job_id)}
    assert replayed == {0: False, 1: False, 2: False, 3: False, 4: True, 5: True}
    assert audit(folder.journal).clean


def test_without_any_checkpoint_and_with_pruned_records_it_says_so(
    client: Client, layout: Layout, groups: list[bytes]
) -> None:
    spec = single()
    fill(client, spec, groups[:6])
    open_learner(spec, client, layout).run()
    for path in checkpoint.stored(layout.job(spec.job_id).checkpoints):
        flip(path / "model.safetensors")
    with pytest.raises(JournalDamaged, match=r"00000000\.rec were pruned.*from a backup"):
        open_learner(spec, client, layout).run()


def test_a_lost_tail_of_the_journal_is_never_a_fresh_start(client: Client, layout: Layout, groups: list[bytes]) -> None:
    spec = single()
    fill(client, spec, groups[:6])
    open_learner(spec, client, layout).run()
    (layout.job(spec.job_id).journal / "00000005.rec").unlink()
    with pytest.raises(JournalDamaged, match="Redis knows of 6 records and 6 steps, the journal holds 5 and 5"):
        open_learner(spec, client, layout).run()
    client.flushdb()
    fill(client, spec, [])
    with pytest.raises(JournalDamaged, match="newest checkpoint has 6 steps and the journal only 5"):
        open_learner(spec, client, layout).run()


def test_training_goes_on_while_a_slow_disk_writes_and_the_last_checkpoint_is_awaited(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(checkpoint_every=3)
    fill(client, spec, groups[:6])
    save = Retention.save
    seen: list[tuple[int, int]] = []

    def slow(self: Retention, snapshot: checkpoint.Snapshot, protected: Any = ()) -> Path:
        deadline = time.monotonic() + 20
        while snapshot.state.next_step == 3 and learner.step < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append((snapshot.state.next_step, learner.step))
        assert not Checkpoints(client).list(spec.job_id) or snapshot.state.next_step == 6
        return save(self, snapshot, protected)

    monkeypatch.setattr(Retention, "save", slow)
    learner = open_learner(spec, client, layout)
    assert learner.run() == "finished"
    assert seen[0][0] == 3 and seen[0][1] >= 5, "two more steps were trained meanwhile"
    assert [record.step for record in Checkpoints(client).list(spec.job_id)] == [3, 6]
    found = checkpoint.verify(layout.job(spec.job_id).checkpoints / "step-00000003")
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
            open_learner(spec, client, layout).run()
    assert caught.value.code == "disk_full" and Checkpoints(client).list(spec.job_id) == []
    assert open_learner(spec, client, layout).run() == "finished"
    assert_ledger(client, spec, trained=6)

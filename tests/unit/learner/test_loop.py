"""The learner's whole order of things, on a real journal, disk and Redis, with a model that is one number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.disk.layout import Layout
from services.job.guard import GuardSpec, Limit
from services.job.spec import EvaluationSpec, JobSpec
from services.journal.journal import Journal
from services.learner import loop
from services.learner.batches import batch_wait
from services.learner.batches.assembler import Batch
from services.learner.batches.batch_wait import Drops, Look, Ready
from services.learner.errors import BatchTimeout, JournalDamaged, NoSuchCheckpoint
from services.learner.loop import Learner
from services.learner.recovery import checkpoint
from services.records.step import StepWaits
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.steps import Checkpoints, Steps
from services.store.job.transitions import Status
from services.trajectories.ledger import Ledger
from services.trajectories.outcomes import Fenced
from services.trajectories.progress import Progress
from tests.support.audit import audit_headers
from tests.support.clock import Clock
from tests.support.fake_backend import FakeBackend, FakeCapture
from tests.unit.learner.conftest import JOB, Fill, spec_of


def kinds(layout: Layout) -> list[str]:
    return [header.kind for header in Journal(layout.job(JOB).journal).headers()]


def expected_weights(spec: JobSpec, *, steps: int) -> float:
    """What a job comes to that nothing disturbed: each group's reward is 1."""
    weights = 0.0
    for _ in range(steps):
        weights = 0.9 * weights + spec.learner.learning_rate * spec.learner.batch_size
    return weights


class Killed(BaseException):
    """The process ends here, as far as the learner can tell."""


def test_a_job_goes_from_its_first_batch_to_its_export(client: Client, layout: Layout, fill: Fill) -> None:
    spec, backend = spec_of(), FakeBackend()
    fill(spec, range(8))
    assert Learner(spec, client, layout, backend).run() == "finished"
    assert backend.calls == [
        "publish version 1 of step 0",
        "train step 0: [0, 1]",
        "publish version 2 of step 1",
        "train step 1: [2, 3]",
        "publish version 3 of step 2",
        "capture step 2",
        "train step 2: [4, 5]",
        "publish version 4 of step 3",
        "train step 3: [6, 7]",
        "publish version 5 of step 4",
        "capture step 4",
        "export",
    ]
    assert backend.weights == expected_weights(spec, steps=4)
    progress = Progress(client).read(JOB)
    assert (progress.next_step, progress.policy_version, progress.phase) == (4, 5, "finished")
    assert (progress.trained_tokens, Ledger(client).snapshot(JOB).trained) == (8, 8)
    assert [record.step for record in Steps(client, layout).since(JOB)] == [0, 1, 2, 3]
    assert [record.step for record in Checkpoints(client).list(JOB)] == [2, 4]
    assert audit_headers(list(Journal(layout.job(JOB).journal).headers())).clean


def test_nothing_is_trained_before_its_record_is_on_disk_and_its_numbers_are_finished(
    client: Client, layout: Layout, fill: Fill
) -> None:
    spec = spec_of(steps=2)
    fill(spec, range(4))
    seen: list[int] = []

    def look(step: int, numbers: Sequence[int]) -> None:
        committed = list(Journal(layout.job(JOB).journal).headers())[step]
        assert committed.trained == list(numbers) and committed.kind == "step"
        assert Ledger(client).snapshot(JOB).trained == 2 * (step + 1)
        seen.append(step)

    Learner(spec, client, layout, FakeBackend(look)).run()
    assert seen == [0, 1]


@pytest.mark.parametrize("killed_at", [0, 1, 2, 3])
def test_a_learner_that_dies_while_it_trains_is_followed_by_one_that_comes_to_the_same(
    client: Client, layout: Layout, fill: Fill, killed_at: int
) -> None:
    spec = spec_of()
    fill(spec, range(8))

    def dies(step: int, numbers: Sequence[int]) -> None:
        if step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        Learner(spec, client, layout, FakeBackend(dies)).run()
    backend = FakeBackend()
    assert Learner(spec, client, layout, backend).run() == "finished"
    assert backend.weights == expected_weights(spec, steps=4)
    first_train = next(call for call in backend.calls if call.startswith("train"))
    before = killed_at - killed_at % 2  # checkpoints are of steps 2 and 4
    assert first_train.startswith(f"train step {before}:")
    assert ("load step 2" in backend.calls) == (before == 2)
    assert audit_headers(list(Journal(layout.job(JOB).journal).headers())).clean
    assert Ledger(client).snapshot(JOB).balanced


def test_a_record_that_ended_three_learners_is_skipped_and_its_groups_are_poison(
    client: Client, layout: Layout, fill: Fill
) -> None:
    spec = spec_of(steps=2)
    fill(spec, range(6))

    def dies(step: int, numbers: Sequence[int]) -> None:
        if 2 in numbers:
            raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            Learner(spec, client, layout, FakeBackend(dies)).run()
    backend = FakeBackend(dies)
    assert Learner(spec, client, layout, backend).run() == "finished"
    assert kinds(layout) == ["step", "step", "skip", "step"]
    assert Ledger(client).snapshot(JOB).dropped == {"poison": 2}
    assert "train step 1: [4, 5]" in backend.calls


def test_a_rollback_gives_back_the_checkpoint_and_publishes_it_under_a_new_version(
    client: Client, layout: Layout, fill: Fill
) -> None:
    spec, backend = spec_of(checkpoint_every=1, keep_checkpoints=4), FakeBackend()
    fill(spec, range(10))
    learner = Learner(spec, client, layout, backend)
    one_step = learner.one_step

    def with_a_rollback() -> None:
        if learner.step == 3 and "rollback" not in kinds(layout):
            learner.returning.roll_back(2)
        one_step()

    learner.one_step = with_a_rollback  # type: ignore[method-assign]
    assert learner.run() == "finished"
    assert kinds(layout) == ["step", "step", "step", "rollback", "step", "step"]
    at = backend.calls.index("load step 2")
    assert backend.calls[at + 1] == "publish version 5 of step 2"
    assert Ledger(client).snapshot(JOB).dropped == {"rolled_back": 2}
    assert backend.weights == expected_weights(spec, steps=4)
    assert [record.step for record in Steps(client, layout).since(JOB)] == [0, 1, 2, 3]


def test_without_a_checkpoint_to_go_back_to_it_says_which_there_are(client: Client, layout: Layout, fill: Fill) -> None:
    spec = spec_of(steps=1)
    fill(spec, range(2))
    learner = Learner(spec, client, layout, FakeBackend())
    learner.run()
    with pytest.raises(NoSuchCheckpoint, match=r"step 0 of 1: checkpoints are kept of steps \[1\]"):
        learner.returning.roll_back(0)


def test_a_stopped_learner_leaves_a_checkpoint_and_the_next_goes_on_from_it(
    client: Client, layout: Layout, fill: Fill
) -> None:
    spec = spec_of(checkpoint_every=100)
    fill(spec, range(8))
    learner = Learner(
        spec, client, layout, FakeBackend(lambda step, numbers: learner.pulse.stop() if step == 1 else None)
    )
    assert learner.run() == "drained"
    backend = FakeBackend()
    assert Learner(spec, client, layout, backend).run() == "finished"
    assert backend.calls[0] == "load step 2" and backend.weights == expected_weights(spec, steps=4)


def test_a_redis_that_forgot_is_told_again_while_the_learner_waits(client: Client, layout: Layout, fill: Fill) -> None:
    spec = spec_of(steps=2)
    fill(spec, range(2))
    learner = Learner(spec, client, layout, FakeBackend())
    wait_look = learner.parts.wait.look
    looks: list[int] = []

    def forgetting(step: int) -> Any:
        if step == 1:
            looks.append(step)
            if len(looks) == 1:
                client.delete(keys.progress(JOB), keys.finished(JOB))
            elif Ledger(client).snapshot(JOB).trained == 2:
                learner.pulse.stop()
        return wait_look(step)

    learner.parts.wait.look = forgetting  # type: ignore[method-assign]
    assert learner.run() == "drained"
    assert Progress(client).read(JOB).next_step == 1 and Progress(client).read(JOB).policy_version == 2


def test_a_wait_has_a_deadline_and_says_what_is_missing(client: Client, layout: Layout, fill: Fill) -> None:
    spec = spec_of(wait_seconds=0.2)
    fill(spec, range(1))
    with pytest.raises(BatchTimeout, match="for step 0: 1 of 2 groups"):
        Learner(spec, client, layout, FakeBackend()).run()


def test_a_wait_that_only_drops_groups_has_a_deadline_too(
    client: Client, layout: Layout, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(wait_seconds=0.2)
    fill(spec, range(50))
    learner, numbers = Learner(spec, client, layout, FakeBackend()), iter(range(50))
    begin = learner.parts.wait.look

    def drops(step: int) -> Drops:
        begin(step)
        return Drops(Batch(dropped={"stale": [next(numbers)]}))

    monkeypatch.setattr(learner.parts.wait, "look", drops)
    with pytest.raises(BatchTimeout, match="for step 0"):
        learner.run()
    assert set(kinds(layout)) == {"drop"}, "what was dropped is in the journal"


def test_a_learner_that_was_replaced_while_it_hung_has_missed_no_deadline(
    client: Client, layout: Layout, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, clock = spec_of(), Clock()
    monkeypatch.setattr(batch_wait, "time", clock)
    fill(spec, range(1))
    learner = Learner(spec, client, layout, FakeBackend())
    look = learner.parts.wait.look

    def hangs(step: int) -> Look:
        found = look(step)
        Journal(layout.job(JOB).journal).claim_epoch()
        clock.sleep(100.0)
        return found

    monkeypatch.setattr(learner.parts.wait, "look", hangs)
    with pytest.raises(Fenced):
        learner.run()


def test_a_replaced_learner_changes_nothing_any_more(client: Client, layout: Layout, fill: Fill) -> None:
    spec = spec_of()
    fill(spec, range(8))

    def replaced(step: int, numbers: Sequence[int]) -> None:
        if step == 1:
            Journal(layout.job(JOB).journal).claim_epoch()

    backend = FakeBackend(replaced)
    with pytest.raises(Fenced):
        Learner(spec, client, layout, backend).run()
    assert backend.calls[-1] == "train step 1: [2, 3]", "neither published nor said"
    assert [record.step for record in Steps(client, layout).since(JOB)] == [0]


def test_a_lost_tail_of_the_journal_is_never_a_fresh_start(client: Client, layout: Layout, fill: Fill) -> None:
    spec = spec_of(steps=2)
    fill(spec, range(4))
    Learner(spec, client, layout, FakeBackend()).run()
    (layout.job(JOB).journal / "00000001.rec").unlink()
    with pytest.raises(JournalDamaged, match="Redis knows of 2 records"):
        Learner(spec, client, layout, FakeBackend()).run()


def test_a_damaged_checkpoint_costs_a_longer_replay(client: Client, layout: Layout, fill: Fill) -> None:
    spec = spec_of(checkpoint_every=1, keep_checkpoints=4)
    fill(spec, range(8))
    Learner(spec, client, layout, FakeBackend()).run()
    folder = layout.job(JOB).checkpoints
    (checkpoint.folder_of(folder, 4) / "weights.json").write_text("7.0")
    backend = FakeBackend()
    assert Learner(spec, client, layout, backend).run() == "finished"
    assert backend.calls[:2] == ["load step 3", "train step 3: [6, 7]"]
    assert backend.weights == expected_weights(spec, steps=4)
    assert (folder / "step-00000004.damaged").exists()


def guarded(*actions: Any, **learner: Any) -> JobSpec:
    guard = GuardSpec(actions=actions, window_steps=1, cooldown_steps=1, kl_k3=Limit(enter=0.2, leave=0.1))
    return spec_of(checkpoint_every=1, keep_checkpoints=4, **learner).model_copy(update={"guard": guard})


def test_the_guard_lowers_the_rate_in_the_next_record(client: Client, layout: Layout, fill: Fill) -> None:
    spec, backend = guarded("lower_lr"), FakeBackend()
    backend.kl_k3 = {1: 0.5}
    fill(spec, range(8))
    Learner(spec, client, layout, backend).run()
    headers = list(Journal(layout.job(JOB).journal).headers())
    rates = [header.settings["learner"]["learning_rate"] for header in headers]
    assert rates == [spec.learner.learning_rate] * 2 + [spec.learner.learning_rate / 2] * 2
    assert [record.guard.actions for record in Steps(client, layout).since(JOB)] == [(), ("lower_lr",), (), ()]


def test_the_guard_goes_back_to_the_newest_healthy_checkpoint(client: Client, layout: Layout, fill: Fill) -> None:
    spec, backend = guarded("rollback"), FakeBackend()
    backend.kl_k3 = {2: 0.5}
    fill(spec, range(10))
    assert Learner(spec, client, layout, backend).run() == "finished"
    assert kinds(layout) == ["step", "step", "step", "rollback", "step", "step"]
    assert "load step 2" in backend.calls


def test_an_alarm_before_the_first_checkpoint_goes_back_to_the_base_model(
    client: Client, layout: Layout, fill: Fill
) -> None:
    spec, backend = guarded("rollback"), FakeBackend()
    backend.kl_k3 = {0: 0.5}
    fill(spec, range(10))
    assert Learner(spec, client, layout, backend).run() == "finished"
    assert kinds(layout) == ["step", "rollback", "step", "step", "step", "step"]
    assert "load step 0" in backend.calls


def test_the_guards_pause_ends_the_learner_after_the_step(client: Client, layout: Layout, fill: Fill) -> None:
    spec, backend = guarded("pause"), FakeBackend()
    backend.kl_k3 = {1: 0.5}
    fill(spec, range(8))
    jobs = Jobs(client)
    for status in (Status.QUEUED, Status.RUNNING):
        jobs.transition(JOB, status, by="test")
    assert Learner(spec, client, layout, backend).run() == "drained"
    assert kinds(layout) == ["step", "step"] and jobs.get(JOB).status is Status.PAUSING
    assert any("pause, because kl_k3" in event.message for event in Events(client).list(JOB)[0])


def test_the_loop_and_all_it_stands_on_need_no_torch() -> None:
    code = "import sys, services.learner.loop; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_mismatch_is_measured_on_a_group_of_the_weights_that_were_kept(
    client: Client, layout: Layout, fill: Fill
) -> None:
    spec, backend = spec_of(mismatch_probe_every=3), FakeBackend()
    fill(spec, range(8))
    Learner(spec, client, layout, backend).run()
    assert [call for call in backend.calls if call.startswith("recompute")] == ["recompute 0"]
    mismatches = [record.drift.mismatch_kl_k3 for record in Steps(client, layout).since(JOB)]
    assert mismatches == [0.25] * 4


def test_what_is_said_of_a_step_says_who_trained_it_and_what_it_waited_for(
    client: Client, layout: Layout, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)

    class Slow(FakeBackend):
        def publish(self, root: Path, *, version: int, step: int) -> Path:
            clock.sleep(0.5)
            return super().publish(root, version=version, step=step)

        def capture(self) -> FakeCapture:
            clock.sleep(0.25)
            return super().capture()

    spec = spec_of(checkpoint_every=1)
    fill(spec, range(8))
    learner = Learner(spec, client, layout, Slow(lambda *_: clock.sleep(2.0)))
    look = learner.parts.wait.look

    def held(step: int) -> Look:
        clock.sleep(8.0)
        found = look(step)
        return replace(found, staleness_seconds=3.0) if isinstance(found, Ready) else found

    monkeypatch.setattr(learner.parts.wait, "look", held)
    learner.run()
    first, *_, last = Steps(client, layout).since(JOB)
    assert (last.epoch, last.policy_version, last.replayed, last.groups) == (1, 5, False, 2)
    assert first.waits == StepWaits(batch=5.0, staleness=3.0, publish=0.5, checkpoint=0.0)
    assert last.waits == StepWaits(batch=5.0, staleness=3.0, publish=0.5, checkpoint=0.25), "that of the step before"
    assert (last.wait_seconds, last.seconds) == (8.0, 2.5)


def test_a_wait_for_a_person_has_no_deadline(
    client: Client, layout: Layout, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_wait, "CHECK_SECONDS", 0.05)
    spec = spec_of(wait_seconds=0.2)
    fill(spec, range(1))
    Jobs(client).update(JOB, rollout_workers=0)
    learner = Learner(spec, client, layout, FakeBackend())
    wait, waits = learner.pulse.wait, iter(range(12))

    def until_enough(seconds: float) -> None:
        wait(seconds)
        if next(waits, None) is None:
            learner.pulse.stop()

    learner.pulse.wait = until_enough  # type: ignore[method-assign]
    assert learner.run() == "drained"


def test_an_evaluation_is_wanted_before_the_first_step_and_whenever_it_is_due(
    client: Client, layout: Layout, fill: Fill
) -> None:
    evaluated = {"evaluation": EvaluationSpec(samples=1, every=3), "validation_file": "file-2"}
    spec = spec_of().model_copy(update=evaluated)
    fill(spec, range(8))
    wanted: list[int | None] = []
    look = FakeBackend(lambda step, numbers: wanted.append(Progress(client).read(JOB).evaluation_step))
    Learner(spec, client, layout, look).run()
    assert [*wanted, Progress(client).read(JOB).evaluation_step] == [0, 0, 0, 3, 4]


def test_a_pause_that_the_guard_decided_is_asked_for_though_its_learner_died(
    client: Client, layout: Layout, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, backend = guarded("pause"), FakeBackend()
    backend.kl_k3 = {1: 0.5}
    fill(spec, range(8))
    for status in (Status.QUEUED, Status.RUNNING):
        Jobs(client).transition(JOB, status, by="test")
    learner = Learner(spec, client, layout, backend)

    def dies(*about: Any) -> None:
        raise Killed

    monkeypatch.setattr(learner.parts.guarding, "pause", dies)
    with pytest.raises(Killed):
        learner.run()
    assert Jobs(client).get(JOB).status is Status.RUNNING
    again = FakeBackend()
    assert Learner(spec, client, layout, again).run() == "drained"
    assert Jobs(client).get(JOB).status is Status.PAUSING and again.state.next_step == 2


def test_groups_that_undone_weights_sampled_are_dropped_after_a_rollback(
    client: Client, layout: Layout, fill: Fill
) -> None:
    spec = spec_of(checkpoint_every=1, keep_checkpoints=4)
    fill(spec, range(6))
    fill(spec, [6, 7], step=3)  # by the version that the third step published, which the rollback undoes
    fill(spec, range(8, 12))
    learner = Learner(spec, client, layout, FakeBackend())
    one_step = learner.one_step

    def with_a_rollback() -> None:
        if learner.step == 3 and "rollback" not in kinds(layout):
            learner.returning.roll_back(2)
        one_step()

    learner.one_step = with_a_rollback  # type: ignore[method-assign]
    assert learner.run() == "finished"
    trained = [number for header in Journal(layout.job(JOB).journal).headers() for number in header.trained]
    assert trained == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert Ledger(client).snapshot(JOB).dropped == {"rolled_back": 4}

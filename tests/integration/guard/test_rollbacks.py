"""The guard's rollbacks in a real learner: to a checkpoint that is healthy and whole, also when they are cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.disk.layout import Layout
from services.job.guard import GuardAction
from services.journal.journal import Journal
from services.learner.opening import open_learner
from services.learner.recovery import checkpoint
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.transitions import Status
from services.trajectories.ledger import Ledger
from tests.support.audit import audit
from tests.support.guarding import STEPS, enter, guarded, heal_after_rollback, kinds, settings, warnings
from tests.support.learning import fill, put, renamed

pytestmark = pytest.mark.timeout(120)


def test_a_rollback_goes_to_a_healthy_checkpoint_with_a_lower_learning_rate(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-back", "rollback", keep_checkpoints=1)
    fill(client, spec, [*groups, *(renamed(groups[n], spec.job_id, 8 + n) for n in range(4))])
    drifts.update({1: 0.45, 2: 1.0})  # the second step is beyond `leave`: what came of it is not healthy
    learner = open_learner(spec, client, layout)
    heal_after_rollback(learner, drifts)
    assert learner.run() == "finished"
    assert kinds(layout, spec)[:4] == ["step", "step", "step", "rollback"]
    rolled = list(Journal(layout.job(spec.job_id).journal).headers())[3]
    assert rolled.step == 1, "kept although there are newer ones and only one is to stay"
    assert rolled.settings["guard"]["state"]["rollbacks"] == 1
    rates = [record["learning_rate"] for record in settings(layout, spec)]
    assert rates == [0.01, 0.01, 0.01, 0.005, 0.005, 0.005]
    report = audit(layout.job(spec.job_id).journal)
    assert report.clean and report.steps == STEPS and report.dropped == {"rolled_back": 4}
    assert Ledger(client).snapshot(spec.job_id).balanced


def test_a_damaged_checkpoint_is_no_refuge(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-damaged", "rollback", keep_checkpoints=4)
    fill(client, spec, [*groups, *(renamed(groups[n], spec.job_id, 8 + n) for n in range(6))])
    drifts.update({1: 0.45, 2: 1.0})
    learner = open_learner(spec, client, layout)
    heal_after_rollback(learner, drifts)
    obey = learner.obey

    def damage_first(action: GuardAction | None) -> None:
        if action == "rollback":
            file = layout.job(spec.job_id).checkpoints / "step-00000001" / "model.safetensors"
            file.write_bytes(file.read_bytes() + b"?")
        obey(action)

    monkeypatch.setattr(learner, "obey", damage_first)
    assert learner.run() == "finished"
    [rolled] = [one for one in Journal(layout.job(spec.job_id).journal).headers() if one.kind == "rollback"]
    assert rolled.step == 0, "the one before"
    assert audit(layout.job(spec.job_id).journal).clean


def test_after_a_rollback_what_the_undone_weights_sampled_is_dropped(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    from sspo_proto.trajectory_pb2 import Group

    def sampled_under(payload: bytes, version: int, step: int) -> bytes:
        group = Group.FromString(payload)
        for trajectory in group.trajectories:
            trajectory.version_spans[0].version, trajectory.version_spans[0].step = version, step
        return group.SerializeToString(deterministic=True)

    spec = guarded("ftjob-undone", "rollback")
    fill(client, spec, groups[:4])
    drifts[1] = 1.0
    learner = open_learner(spec, client, layout)
    heal_after_rollback(learner, drifts)
    stale = {4: sampled_under(renamed(groups[4], spec.job_id, 4), 3, 2)}  # version 3 is that after two steps
    fresh = {n: sampled_under(renamed(groups[n - 4], spec.job_id, n), 4, 1) for n in range(5, 11)}
    put(client, spec, stale | fresh)
    assert learner.run() == "finished"
    report = audit(layout.job(spec.job_id).journal)
    assert report.clean and report.dropped == {"rolled_back": 3}, "two that were trained, and one on its way"


def test_a_rollback_that_was_cut_off_happens_after_the_restart(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-cut", "rollback")
    fill(client, spec, [*groups, *(renamed(groups[n], spec.job_id, 8 + n) for n in range(4))])
    drifts.update({1: 1.0, 2: 1.0})
    learner = open_learner(spec, client, layout)

    def killed(*about: Any, **more: Any) -> None:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner.returning, "roll_back", killed)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    again = open_learner(spec, client, layout)
    heal_after_rollback(again, drifts)
    assert again.run() == "finished"
    assert kinds(layout, spec)[:4] == ["step", "step", "step", "rollback"]
    assert settings(layout, spec)[-1]["learning_rate"] == 0.005


def test_without_a_kept_healthy_checkpoint_the_job_is_paused(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-nowhere", "rollback", "pause")
    fill(client, spec, groups)
    enter(client, spec, Status.QUEUED, Status.RUNNING)
    drifts.update(dict.fromkeys(range(STEPS), 1.0))
    learner = open_learner(spec, client, layout)
    obey = learner.obey

    def forgets(action: Any) -> None:
        learner.parts.writer.wait()
        for path in checkpoint.stored(layout.job(spec.job_id).checkpoints):
            if checkpoint.step_of(path) == 0:
                path.rename(Path(f"{path}.gone"))
        obey(action)

    learner.obey = forgets  # type: ignore[method-assign]
    assert learner.run() == "drained"
    assert Jobs(client).get(spec.job_id).status is Status.PAUSING
    assert kinds(layout, spec) == ["step", "step"], "one to find no checkpoint, one to pause"
    assert any("no healthy checkpoint" in text for text in warnings(client, spec))

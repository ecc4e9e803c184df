"""The guard in a real learner: what it changes is in the next record, survives a restart, and replays bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.controller.issuing.capacity import capacity, paced
from services.disk.layout import Layout
from services.job.guard_spec import GuardAction, GuardSpec
from services.job.spec import JobSpec
from services.journal.journal import Journal, audit
from services.learner.loop import Learner
from services.learner.model.trainer import Trainer
from services.learner.recovery import checkpoint
from services.learner.recovery.replay import replay
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.steps import Steps
from services.store.job.transitions import Status
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from tests.support.learning import exported, fill, put, renamed, same_bits
from tests.support.tiny import job_spec

pytestmark = pytest.mark.timeout(120)
STEPS = 4


def guarded(job_id: str, *actions: str, guard: dict[str, Any] | None = None, **learner: Any) -> JobSpec:
    """A job of four steps whose guard acts after every step that is beyond k3 = 0.5."""
    limits = {"window_steps": 1, "cooldown_steps": 1, "kl_k3": {"enter": 0.5, "leave": 0.4}, "reward_share": None}
    open_limits = dict.fromkeys(("ess_token", "ess_sequence", "outside_band_ratio", "mismatch_kl_k3"))
    block = {"actions": actions, **limits, **open_limits, **(guard or {})}
    settings = {"checkpoint_every": 1, "updates_per_step": 2, "max_staleness": 8, "wait_seconds": 15.0, **learner}
    spec = job_spec(job_id, steps=STEPS, **settings)
    return spec.model_copy(update={"guard": GuardSpec.model_validate(block)})


@pytest.fixture
def drifts(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Step → the k3 that its figures say, while the test lasts."""
    said: dict[int, float] = {}
    train = Trainer.train

    def told(self: Trainer, groups: Any, step: int) -> dict[str, Any]:
        figures = train(self, groups, step)
        figures["drift"]["kl_k3"] = said.get(step, 0.0)
        return figures

    monkeypatch.setattr(Trainer, "train", told)
    return said


def settings(layout: Layout, spec: JobSpec) -> list[dict[str, Any]]:
    """What the records of trained steps say of the learner's settings."""
    headers = [header for header in Journal(layout.job(spec.job_id).journal).headers() if header.kind == "step"]
    return [header.settings["learner"] for header in headers]


def warnings(client: Client, spec: JobSpec) -> list[str]:
    return [event.message for event in Events(client).list(spec.job_id)[0] if event.level == "warn"][::-1]


def enter(client: Client, spec: JobSpec, *statuses: Status) -> None:
    for status in statuses:
        Jobs(client).transition(spec.job_id, status, by="test")


def kinds(layout: Layout, spec: JobSpec) -> list[str]:
    return [header.kind for header in Journal(layout.job(spec.job_id).journal).headers()]


def test_what_is_lowered_is_in_the_next_record_and_replays_to_the_same_bits(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-lower", "throttle", "lower_lr")
    fill(client, spec, groups)
    drifts.update({0: 1.0, 1: 1.0})
    assert Learner(spec, client, layout).run() == "finished"
    rates = [record["learning_rate"] for record in settings(layout, spec)]
    assert rates == [0.01, 0.01, 0.005, 0.005]
    assert [record["updates_per_step"] for record in settings(layout, spec)] == [2, 1, 1, 2], "calm lifts the throttle"
    assert [record["max_staleness"] for record in settings(layout, spec)] == [8, 4, 4, 8]
    said = [record["guard"] for record in Steps(client, layout).since(spec.job_id)]
    assert [one["actions"] for one in said] == [["throttle"], ["lower_lr"], [], []]
    assert [one["level"] for one in said] == [1, 2, 0, 0]
    assert [record["learning_rate"] for record in Steps(client, layout).since(spec.job_id)] == rates
    texts = warnings(client, spec)
    assert "step 1: throttle, because kl_k3 1 above 0.5" in texts[0] and "lower_lr" in texts[1]
    for step in (2, 3):
        again = replay(layout, spec.job_id, step, from_checkpoint=2)
        assert again.equal, [row for row in again.rows if not row.equal]


def test_the_dispatcher_is_told_how_far_ahead_it_may_issue(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-pace", "throttle", guard={"cooldown_steps": 64})
    fill(client, spec, groups)
    drifts[3] = 1.0
    Learner(spec, client, layout).run()
    window = Progress(client).read(spec.job_id).staleness_window
    assert window == 4
    where = {"next_step": 0, "published_step": 0, "trained": 0, "in_flight": 0}
    learner = spec.learner.model_copy(update={"steps": 100})
    assert capacity(learner, **where) - capacity(paced(learner, window), **where) == 4 * spec.learner.batch_size
    assert paced(learner, -1) == learner


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_learner_that_starts_again_goes_on_as_the_one_before(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], stop: int
) -> None:
    calm, hit = (guarded(f"ftjob-{name}", "throttle", "lower_lr") for name in ("calm", "hit"))
    drifts.update({0: 1.0, 1: 1.0, 2: 1.0})
    fill(client, calm, groups)
    Learner(calm, client, layout).run()
    fill(client, hit, groups)
    first = Learner(hit, client, layout)
    look = first._guarding.look

    def stops(step: int, figures: Any) -> Any:
        if step + 1 == stop:
            first.stop()
        return look(step, figures)

    first._guarding.look = stops  # type: ignore[method-assign]
    assert first.run() == "drained"
    assert Learner(hit, client, layout).run() == "finished"
    assert settings(layout, hit) == settings(layout, calm)
    assert same_bits(exported(layout, calm), exported(layout, hit))


def test_a_killed_learner_recalls_what_the_guard_knew(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-killed", "lower_lr")
    fill(client, spec, groups)
    drifts.update({0: 1.0, 1: 1.0})
    learner = Learner(spec, client, layout)
    monkeypatch.setattr(learner, "_checkpoint", lambda: None)

    def dies(*about: Any, **more: Any) -> None:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner, "_obey", lambda action: dies() if learner.step == 2 else None)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    assert Learner(spec, client, layout).run() == "finished"
    assert [record["learning_rate"] for record in settings(layout, spec)] == [0.01, 0.005, 0.0025, 0.0025]
    assert len([text for text in warnings(client, spec) if "lower_lr" in text]) == 2, "a replay acts on nothing"


def test_a_rollback_goes_to_a_healthy_checkpoint_with_a_lower_learning_rate(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-back", "rollback", keep_checkpoints=1)
    fill(client, spec, [*groups, *(renamed(groups[n], spec.job_id, 8 + n) for n in range(4))])
    drifts.update({1: 0.45, 2: 1.0})  # the second step is beyond `leave`: what came of it is not healthy
    learner = Learner(spec, client, layout)
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
    learner = Learner(spec, client, layout)
    heal_after_rollback(learner, drifts)
    obey = learner._obey

    def damage_first(action: GuardAction | None) -> None:
        if action == "rollback":
            file = layout.job(spec.job_id).checkpoints / "step-00000001" / "model.safetensors"
            file.write_bytes(file.read_bytes() + b"?")
        obey(action)

    monkeypatch.setattr(learner, "_obey", damage_first)
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
    learner = Learner(spec, client, layout)
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
    learner = Learner(spec, client, layout)

    def killed(*about: Any, **more: Any) -> None:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner, "rollback", killed)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    again = Learner(spec, client, layout)
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
    learner = Learner(spec, client, layout)
    obey = learner._obey

    def forgets(action: Any) -> None:
        learner._writer.wait()
        for path in checkpoint.stored(layout.job(spec.job_id).checkpoints):
            if checkpoint.step_of(path) == 0:
                path.rename(Path(f"{path}.gone"))
        obey(action)

    learner._obey = forgets  # type: ignore[method-assign]
    assert learner.run() == "drained"
    assert Jobs(client).get(spec.job_id).status is Status.PAUSING
    assert kinds(layout, spec) == ["step", "step"], "one to find no checkpoint, one to pause"
    assert any("no healthy checkpoint" in text for text in warnings(client, spec))


def test_a_resumed_job_is_not_paused_for_what_is_over(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-resumed", "pause")
    fill(client, spec, groups)
    enter(client, spec, Status.QUEUED, Status.RUNNING)
    drifts[1] = 1.0
    assert Learner(spec, client, layout).run() == "drained"
    events = [event.message for event in Events(client).list(spec.job_id)[0]]
    assert any("The guard pauses the job" in text for text in events)
    enter(client, spec, Status.PAUSED, Status.QUEUED, Status.RUNNING)
    drifts.clear()
    assert Learner(spec, client, layout).run() == "finished"


def test_a_pause_that_was_cut_off_is_asked_for_again(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-cut-off", "pause")
    fill(client, spec, groups)
    enter(client, spec, Status.QUEUED, Status.RUNNING)
    drifts[1] = 1.0
    learner = Learner(spec, client, layout)

    def killed(*about: Any) -> None:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner._guarding, "pause", killed)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    assert Jobs(client).get(spec.job_id).status is Status.RUNNING
    assert Learner(spec, client, layout).run() == "drained"
    assert Jobs(client).get(spec.job_id).status is Status.PAUSING
    assert kinds(layout, spec) == ["step", "step"], "not one step more"
    enter(client, spec, Status.PAUSED, Status.QUEUED, Status.RUNNING)
    assert Learner(spec, client, layout).run() == "finished"


def test_a_pause_that_took_place_is_not_asked_for_again(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-once", "pause")
    fill(client, spec, groups)
    enter(client, spec, Status.QUEUED, Status.RUNNING)
    drifts[1] = 1.0
    learner = Learner(spec, client, layout)
    pause = learner._guarding.pause

    def killed_after() -> None:
        pause()
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner._guarding, "pause", killed_after)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    enter(client, spec, Status.PAUSED, Status.QUEUED, Status.RUNNING)
    assert Learner(spec, client, layout).run() == "finished"


def test_sync_publishes_anew_and_issues_no_further_ahead(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-sync", "sync", guard={"cooldown_steps": 8})
    fill(client, spec, groups)
    drifts[1] = 1.0
    learner = Learner(spec, client, layout)
    windows = windows_of(learner, client, spec)
    assert learner.run() == "finished"
    assert learner.version == 1 + STEPS + 1, "one version for each step, the first, and one more"
    assert windows == [-1, 0, 0, 0], "no batch was sampled under the newest weights since"


def test_without_actions_there_is_no_guard(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-off")
    fill(client, spec, groups)
    drifts.update(dict.fromkeys(range(STEPS), 1.0))
    assert Learner(spec, client, layout).run() == "finished"
    assert not warnings(client, spec)
    headers = list(Journal(layout.job(spec.job_id).journal).headers())
    assert all("guard" not in header.settings for header in headers)


def heal_after_rollback(learner: Learner, drifts: dict[int, float]) -> None:
    """What caused the drift is over once training has gone back."""
    rollback = learner.rollback

    def heals(*about: Any, **more: Any) -> None:
        rollback(*about, **more)
        drifts.clear()

    learner.rollback = heals  # type: ignore[method-assign]


def windows_of(learner: Learner, client: Client, spec: JobSpec) -> Sequence[int]:
    """The staleness window that the dispatcher sees after every step, as the learner runs."""
    seen: list[int] = []
    obey = learner._obey

    def looks(action: Any) -> None:
        seen.append(Progress(client).read(spec.job_id).staleness_window)
        obey(action)

    learner._obey = looks  # type: ignore[method-assign]
    return seen

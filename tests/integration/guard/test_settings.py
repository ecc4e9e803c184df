"""The guard in a real learner: what it changes is in the next record, survives a restart, and replays bit for bit."""

from __future__ import annotations

from typing import Any

import pytest

from services.controller.issuing.capacity import capacity, paced
from services.disk.layout import Layout
from services.journal.journal import Journal
from services.learner.model.local import open_backend
from services.learner.opening import open_learner
from services.learner.recovery.replay import replay
from services.store.client import Client
from services.store.job.steps import Steps
from services.trajectories.progress import Progress
from tests.support.guarding import STEPS, guarded, settings, warnings, windows_of
from tests.support.learning import exported, fill, same_bits

pytestmark = pytest.mark.timeout(120)


def test_what_is_lowered_is_in_the_next_record_and_replays_to_the_same_bits(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-lower", "throttle", "lower_lr")
    fill(client, spec, groups)
    drifts.update({0: 1.0, 1: 1.0})
    assert open_learner(spec, client, layout).run() == "finished"
    rates = [record["learning_rate"] for record in settings(layout, spec)]
    assert rates == [0.01, 0.01, 0.005, 0.005]
    assert [record["updates_per_step"] for record in settings(layout, spec)] == [2, 1, 1, 2], "calm lifts the throttle"
    assert [record["max_staleness"] for record in settings(layout, spec)] == [8, 4, 4, 8]
    said = [record.guard for record in Steps(client, layout).since(spec.job_id)]
    assert [one.actions for one in said] == [("throttle",), ("lower_lr",), (), ()]
    assert [one.level for one in said] == [1, 2, 0, 0]
    assert [record.learning_rate for record in Steps(client, layout).since(spec.job_id)] == rates
    texts = warnings(client, spec)
    assert "step 1: throttle, because kl_k3 1 above 0.5" in texts[0] and "lower_lr" in texts[1]
    for step in (2, 3):
        again = replay(layout, spec.job_id, step, open_backend, from_checkpoint=2)
        assert again.equal, [row for row in again.rows if not row.equal]


def test_the_dispatcher_is_told_how_far_ahead_it_may_issue(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-pace", "throttle", guard={"cooldown_steps": 64})
    fill(client, spec, groups)
    drifts[3] = 1.0
    open_learner(spec, client, layout).run()
    window = Progress(client).read(spec.job_id).staleness_window
    assert window == 4
    where = {"next_step": 0, "published_step": 0, "trained": 0, "in_flight": 0}
    learner = spec.learner.model_copy(update={"steps": 100})
    fewer = capacity(learner, **where).groups - capacity(paced(learner, window), **where).groups
    assert fewer == 4 * spec.learner.batch_size
    assert paced(learner, None) == learner


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_learner_that_starts_again_goes_on_as_the_one_before(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], stop: int
) -> None:
    calm, hit = (guarded(f"ftjob-{name}", "throttle", "lower_lr") for name in ("calm", "hit"))
    drifts.update({0: 1.0, 1: 1.0, 2: 1.0})
    fill(client, calm, groups)
    open_learner(calm, client, layout).run()
    fill(client, hit, groups)
    first = open_learner(hit, client, layout)
    look = first.parts.guarding.look

    def stops(step: int, figures: Any) -> Any:
        if step + 1 == stop:
            first.pulse.stop()
        return look(step, figures)

    first.parts.guarding.look = stops  # type: ignore[method-assign]
    assert first.run() == "drained"
    assert open_learner(hit, client, layout).run() == "finished"
    assert settings(layout, hit) == settings(layout, calm)
    assert same_bits(exported(layout, calm), exported(layout, hit))


def test_a_killed_learner_recalls_what_the_guard_knew(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-killed", "lower_lr")
    fill(client, spec, groups)
    drifts.update({0: 1.0, 1: 1.0})
    learner = open_learner(spec, client, layout)
    monkeypatch.setattr(learner, "_checkpoint", lambda: None)

    def dies(*about: Any, **more: Any) -> None:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner, "obey", lambda action: dies() if learner.step == 2 else None)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    assert open_learner(spec, client, layout).run() == "finished"
    assert [record["learning_rate"] for record in settings(layout, spec)] == [0.01, 0.005, 0.0025, 0.0025]
    assert len([text for text in warnings(client, spec) if "lower_lr" in text]) == 2, "a replay acts on nothing"


def test_sync_publishes_anew_and_issues_no_further_ahead(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-sync", "sync", guard={"cooldown_steps": 8})
    fill(client, spec, groups)
    drifts[1] = 1.0
    learner = open_learner(spec, client, layout)
    windows = windows_of(learner, client, spec)
    assert learner.run() == "finished"
    assert learner.pulse.version == 1 + STEPS + 1, "one version for each step, the first, and one more"
    assert windows == [None, 0, 0, 0], "no batch was sampled under the newest weights since"


def test_without_actions_there_is_no_guard(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-off")
    fill(client, spec, groups)
    drifts.update(dict.fromkeys(range(STEPS), 1.0))
    assert open_learner(spec, client, layout).run() == "finished"
    assert not warnings(client, spec)
    headers = list(Journal(layout.job(spec.job_id).journal).headers())
    assert all("guard" not in header.settings for header in headers)

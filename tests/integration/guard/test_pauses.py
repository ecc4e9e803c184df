"""The guard's pauses in a real learner: asked for once, whenever the learner dies."""

from __future__ import annotations

from typing import Any

import pytest

from services.disk.layout import Layout
from services.learner.opening import open_learner
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.transitions import Status
from tests.support.guarding import enter, guarded, kinds
from tests.support.learning import fill

pytestmark = pytest.mark.timeout(120)


def test_a_resumed_job_is_not_paused_for_what_is_over(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float]
) -> None:
    spec = guarded("ftjob-resumed", "pause")
    fill(client, spec, groups)
    enter(client, spec, Status.QUEUED, Status.RUNNING)
    drifts[1] = 1.0
    assert open_learner(spec, client, layout).run() == "drained"
    events = [event.message for event in Events(client).list(spec.job_id)[0]]
    assert any("The guard pauses the job" in text for text in events)
    enter(client, spec, Status.PAUSED, Status.QUEUED, Status.RUNNING)
    drifts.clear()
    assert open_learner(spec, client, layout).run() == "finished"


def test_a_pause_that_was_cut_off_is_asked_for_again(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-cut-off", "pause")
    fill(client, spec, groups)
    enter(client, spec, Status.QUEUED, Status.RUNNING)
    drifts[1] = 1.0
    learner = open_learner(spec, client, layout)

    def killed(*about: Any) -> None:
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner.parts.guarding, "pause", killed)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    assert Jobs(client).get(spec.job_id).status is Status.RUNNING
    assert open_learner(spec, client, layout).run() == "drained"
    assert Jobs(client).get(spec.job_id).status is Status.PAUSING
    assert kinds(layout, spec) == ["step", "step"], "not one step more"
    enter(client, spec, Status.PAUSED, Status.QUEUED, Status.RUNNING)
    assert open_learner(spec, client, layout).run() == "finished"


def test_a_pause_that_took_place_is_not_asked_for_again(
    client: Client, layout: Layout, groups: list[bytes], drifts: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = guarded("ftjob-once", "pause")
    fill(client, spec, groups)
    enter(client, spec, Status.QUEUED, Status.RUNNING)
    drifts[1] = 1.0
    learner = open_learner(spec, client, layout)
    pause = learner.parts.guarding.pause

    def killed_after() -> None:
        pause()
        raise KeyboardInterrupt("killed")

    monkeypatch.setattr(learner.parts.guarding, "pause", killed_after)
    with pytest.raises(KeyboardInterrupt):
        learner.run()
    enter(client, spec, Status.PAUSED, Status.QUEUED, Status.RUNNING)
    assert open_learner(spec, client, layout).run() == "finished"

"""What a rollout worker says of itself."""

from __future__ import annotations

import pytest

from services.records.worker import WorkerState
from services.rollout.presence import RolloutPresence
from services.store.client import Client


@pytest.mark.parametrize(
    ("state", "seconds", "then"),
    [("ready", 0.9, "ready"), ("ready", 1.1, "syncing"), ("starting", 60.0, "starting"), ("syncing", 0.1, "syncing")],
)
def test_only_a_load_longer_than_a_heartbeat_is_said(
    client: Client, monkeypatch: pytest.MonkeyPatch, state: WorkerState, seconds: float, then: str
) -> None:
    monkeypatch.setattr("services.rollout.presence.BEAT_SECONDS", 1.0)
    mine = RolloutPresence(client, "ftjob-1", "rollout-1", "127.0.0.1:9")
    mine.state = state
    mine.loading(seconds)
    assert mine.state == then

"""What a worker says of itself, and which workers count as working."""

from __future__ import annotations

import os
import time

import pytest

from services.records.worker import WorkerDetail, WorkerRecord
from services.store.client import Client
from services.store.job import presence
from services.store.job.presence import Presence
from services.store.job.registry import Registry

JOB = "ftjob-1"


def test_a_heartbeat_says_who_where_and_how(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Presence(client, JOB, "rollout-1", "rollout", "host:9100")
    assert said.due(), "the first one at once"
    said.say("ready", 3, WorkerDetail(engine_pid=7))
    [worker] = Registry(client).list(JOB)
    assert (worker.id, worker.kind, worker.state, worker.policy_version) == ("rollout-1", "rollout", "ready", 3)
    assert worker.pid == os.getpid() and worker.node and abs(worker.heartbeat - time.time()) < 30
    assert worker.detail == WorkerDetail(engine_pid=7, metrics_address="host:9100")
    assert not said.due()
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.0)
    said.say("draining")
    assert said.due(), "a period has passed"
    [worker] = Registry(client).list(JOB)
    assert (worker.state, worker.policy_version) == ("draining", 0)


@pytest.mark.parametrize(
    ("state", "up"),
    [("starting", False), ("syncing", True), ("ready", True), ("draining", False), ("failed", False)],
)
def test_a_worker_that_loads_newer_weights_is_up(state: str, up: bool) -> None:
    record = {"id": "r-1", "kind": "rollout", "state": state, "policy_version": 1, "node": "n", "pid": 1}
    assert WorkerRecord.model_validate(record | {"heartbeat": 0.0}).up is up

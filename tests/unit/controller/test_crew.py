"""A worker's id names one living worker, whatever Redis remembers of the ids it gave."""

from __future__ import annotations

from typing import Any

import pytest

from services.controller import crew as crew_module
from services.controller.crew import Crew
from services.spec import JobSpec
from services.store.client import Client
from tests.support.tiny import job_spec


class OneLiving:
    """A fleet in which `rollout-1` lives, drained, so that another one is wanted."""

    def __init__(self, spec: JobSpec) -> None:
        self.started: list[str] = []

    def __contains__(self, worker_id: str) -> bool:
        return worker_id == "rollout-1"

    def of(self, kind: str) -> list[Any]:
        return []

    def start(self, kind: str, worker_id: str) -> None:
        self.started.append(worker_id)


def test_an_id_that_redis_forgot_is_not_given_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "Fleet", OneLiving)
    crew = Crew(job_spec(), client)
    crew.keep("rollout", 2)
    crew.keep("reward", 1)
    assert crew._fleet.started == ["rollout-2", "rollout-3", "reward-1"]

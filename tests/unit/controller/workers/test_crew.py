"""A worker's id names one living worker, whatever Redis remembers of the ids it gave."""

from __future__ import annotations

from typing import Any

import pytest

from services.controller.workers import crew as crew_module
from services.controller.workers.crew import Crew
from services.controller.workers.fleet import Ended, Member
from services.job.spec import JobSpec
from services.store.client import Client
from services.trajectories.tallies import Tallies
from tests.support.tiny import job_spec


class AllEnded:
    """A fleet whose only worker has just died."""

    def __init__(self, spec: JobSpec) -> None:
        member = Member("rollout-1", "rollout", None, None, 0.0)
        self.ended = [Ended(member, None, "ActorDiedError: killed")]

    def __contains__(self, worker_id: str) -> bool:
        return False

    def poll(self) -> list[Ended]:
        ended, self.ended = self.ended, []
        return ended


def test_a_worker_that_died_is_counted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "Fleet", AllEnded)
    spec = job_spec()
    crew = Crew(spec, client)
    assert crew.mourn() is None and crew.mourn() is None
    assert Tallies(client).read(spec.job_id).restarts == {"rollout": 1}


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

"""Which actors belong to a job's fleet, by what Ray says there is."""

from __future__ import annotations

from typing import Any

import pytest

from services.controller.workers import fleet as fleet_module
from services.controller.workers.fleet import NAMESPACE, Fleet
from tests.support.tiny import job_spec


class Handle:
    """An actor that works for ever."""

    def __init__(self) -> None:
        self.run = self

    def remote(self) -> object:
        return object()


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the actors that Ray lists; append to it, and they are there."""
    names: list[str] = []

    def listed(**_: Any) -> list[dict[str, str]]:
        return [{"namespace": NAMESPACE, "name": name} for name in names]

    monkeypatch.setattr(fleet_module.ray.util, "list_named_actors", listed)
    monkeypatch.setattr(fleet_module.ray, "get_actor", lambda name, namespace: Handle())
    monkeypatch.setattr(fleet_module.ray, "kill", lambda handle, no_restart: None)
    return names


def ids(fleet: Fleet) -> list[str]:
    return sorted(member.id for kind in ("learner", "rollout", "reward") for member in fleet.of(kind))


def test_a_stray_that_a_woken_controller_started_is_taken_in(named: list[str]) -> None:
    spec = job_spec()
    named += [f"{spec.job_id}/rollout-1", "ftjob-other/rollout-1"]
    fleet = Fleet(spec)
    assert ids(fleet) == ["rollout-1"]
    named.append(f"{spec.job_id}/rollout-7")
    fleet.adopt()
    fleet.adopt()
    assert ids(fleet) == ["rollout-1", "rollout-7"]


def test_one_that_was_killed_is_not_taken_in_again_while_ray_still_lists_it(named: list[str]) -> None:
    spec = job_spec()
    named.append(f"{spec.job_id}/learner-1")
    fleet = Fleet(spec)
    fleet.kill_all()
    fleet.adopt()
    assert len(fleet) == 0

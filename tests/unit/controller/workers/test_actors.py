"""What is asked of Ray for each kind of worker, and what Ray says of those that ended."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ray.exceptions import RayActorError

from services.controller.workers import fleet as fleet_module
from services.controller.workers import nodes as nodes_module
from services.controller.workers.fleet import NAMESPACE, WORKER_RESOURCE, Fleet
from services.controller.workers.nodes import EVERY_SECONDS, NodeWatch
from services.store.client import Client
from services.store.nodes import Nodes
from tests.support.tiny import job_spec

SPEC = job_spec("ftjob-1")


class Method:
    """`actor.METHOD.remote()`."""

    def __init__(self, handle: Actor, name: str) -> None:
        self._handle = handle
        self._name = name

    def remote(self) -> str:
        self._handle.called.append(self._name)
        return f"{self._handle.name} {self._name}"


class Actor:
    """A handle."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.called: list[str] = []
        self.run, self.drain = Method(self, "run"), Method(self, "drain")


class Cluster:
    """Stands where Ray stands."""

    def __init__(self) -> None:
        self.named: list[dict[str, str]] = []
        self.resources: dict[str, float] = {}
        self.outcomes: dict[str, Any] = {}
        self.killed: list[str] = []
        self.options: dict[str, dict[str, Any]] = {}
        self.arguments: dict[str, tuple[Any, ...]] = {}
        self.util = self
        self.living: list[dict[str, Any]] = []

    def list_named_actors(self, *, all_namespaces: bool = False) -> list[Any]:
        assert all_namespaces
        return list(self.named)

    def get_actor(self, name: str, namespace: str) -> Actor:
        if name.endswith("gone"):
            raise ValueError(name)
        return Actor(name)

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def wait(self, refs: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert num_returns == len(refs) and timeout == 0
        return [ref for ref in refs if ref in self.outcomes], []

    def get(self, ref: str, timeout: float) -> Any:
        outcome = self.outcomes[ref]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def kill(self, handle: Actor, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(handle.name)

    def nodes(self) -> list[dict[str, Any]]:
        return self.living


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()

    class Class:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def options(self, **options: Any) -> Any:
            made.options[options["name"]] = options

            class Made:
                @staticmethod
                def remote(*arguments: Any) -> Actor:
                    made.arguments[options["name"]] = arguments
                    return Actor(options["name"])

            return Made

    monkeypatch.setattr(fleet_module, "ray", made)
    monkeypatch.setattr(nodes_module, "ray", made)
    monkeypatch.setattr(fleet_module, "_actor_class", Class)
    return made


def test_a_worker_is_a_detached_actor_by_the_name_of_job_and_worker(cluster: Cluster) -> None:
    fleet = Fleet(SPEC)
    member = fleet.start("rollout", "rollout-1")
    options = cluster.options["ftjob-1/rollout-1"]
    assert (options["namespace"], options["lifetime"], options["num_cpus"]) == (NAMESPACE, "detached", 0)
    assert cluster.arguments["ftjob-1/rollout-1"] == (SPEC.model_dump_json(), "rollout-1")
    assert member.handle.called == ["run"] and abs(member.started - time.monotonic()) < 30
    assert "rollout-1" in fleet and len(fleet) == 1 and fleet.of("rollout") == [member] and fleet.of("reward") == []


@pytest.mark.parametrize(
    ("kind", "device", "gpus", "asked"),
    [
        ("learner", "auto", 1, 1),
        ("rollout", "auto", 4, 1),
        ("reward", "auto", 4, None),
        ("rollout", "cpu", 4, None),
        ("rollout", "auto", 0, None),
        ("learner", "auto", 0.5, None),
    ],
)
def test_gpus_are_asked_for_where_there_are_some(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, kind: Any, device: str, gpus: float, asked: int | None
) -> None:
    monkeypatch.setenv("SSPO_DEVICE", device)
    cluster.resources = {"GPU": gpus}
    Fleet(SPEC).start(kind, f"{kind}-1")
    assert cluster.options[f"ftjob-1/{kind}-1"].get("num_gpus") == asked


def test_workers_go_where_the_cluster_says_they_belong(cluster: Cluster) -> None:
    fleet = Fleet(SPEC)
    fleet.start("reward", "reward-1")
    cluster.resources = {WORKER_RESOURCE: 2}
    fleet.start("reward", "reward-2")
    assert "resources" not in cluster.options["ftjob-1/reward-1"]
    assert cluster.options["ftjob-1/reward-2"]["resources"] == {WORKER_RESOURCE: 0.001}, "many share a node"


def test_members_that_ended_are_told_once_with_what_they_said(cluster: Cluster) -> None:
    fleet = Fleet(SPEC)
    assert fleet.poll() == []
    for worker in ("rollout-1", "rollout-2", "rollout-3"):
        fleet.start("rollout", worker)
    cluster.outcomes = {
        "ftjob-1/rollout-1 run": {"outcome": "drained"},
        "ftjob-1/rollout-2 run": RayActorError(error_msg="first line\nThe actor died."),
    }
    ended = {one.member.id: one for one in fleet.poll()}
    assert ended["rollout-1"].outcome == {"outcome": "drained"} and ended["rollout-1"].error == ""
    assert ended["rollout-2"].outcome is None
    assert ended["rollout-2"].error.startswith("RayActorError: ") and "first line" not in ended["rollout-2"].error
    assert sorted(cluster.killed) == ["ftjob-1/rollout-1", "ftjob-1/rollout-2"], "their processes go too"
    assert fleet.poll() == [] and [member.id for member in fleet.of("rollout")] == ["rollout-3"]


def test_draining_is_asked_for_once(cluster: Cluster) -> None:
    fleet = Fleet(SPEC)
    member = fleet.start("rollout", "rollout-1")
    assert (member.draining, member.drained_at) == (False, 0.0)
    fleet.drain(member)
    first = member.drained_at
    fleet.drain(member)
    assert member.draining and member.drained_at == first > 0 and member.handle.called == ["run", "drain"]


def test_who_is_killed_is_no_member_any_more(cluster: Cluster) -> None:
    fleet = Fleet(SPEC)
    fleet.kill(fleet.start("rollout", "rollout-1"))
    for worker in ("reward-1", "learner-1"):
        fleet.start("reward" if worker == "reward-1" else "learner", worker)
    assert "rollout-1" not in fleet and len(fleet) == 2
    fleet.kill_all()
    assert len(fleet) == 0 and sorted(cluster.killed) == [
        *("ftjob-1/learner-1", "ftjob-1/reward-1", "ftjob-1/rollout-1"),
    ]


def test_living_actors_of_this_job_are_adopted_and_no_others(cluster: Cluster) -> None:
    cluster.named = [
        {"namespace": NAMESPACE, "name": "ftjob-1/learner-1"},
        {"namespace": NAMESPACE, "name": "ftjob-1/reward-gone"},
        {"namespace": NAMESPACE, "name": "ftjob-10/rollout-1"},
        {"namespace": "somebody", "name": "ftjob-1/rollout-2"},
        {"namespace": NAMESPACE, "name": "ftjob-1/rollout-3"},
    ]
    fleet = Fleet(SPEC)
    assert [member.id for member in fleet.of("learner")] == ["learner-1"]
    assert [member.id for member in fleet.of("rollout")] == ["rollout-3"]
    assert len(fleet) == 2 and fleet.of("learner")[0].handle.called == ["run"]


@pytest.mark.parametrize("kind", ["rollout", "reward", "learner"])
def test_each_kind_has_its_actor(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fleet_module._actor_class(kind)
    assert found.__ray_metadata__.class_name.startswith(kind.capitalize())


def test_nodes_that_live_and_measure_are_told_now_and_then(
    cluster: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(nodes_module.time, "monotonic", lambda: now[0])
    node = {"NodeManagerAddress": "10.0.0.1", "MetricsExportPort": 9100, "NodeManagerHostname": "one", "Alive": True}
    cluster.living = [
        node,
        node | {"NodeManagerAddress": "10.0.0.2", "Alive": False},
        node | {"NodeManagerAddress": "10.0.0.3", "MetricsExportPort": 0},
    ]
    watch = NodeWatch(client)
    watch.look()
    assert Nodes(client).list() == {"10.0.0.1:9100": "one"}
    cluster.living = []
    watch.look()
    assert Nodes(client).list() != {}, "not due yet"
    now[0] += EVERY_SECONDS
    watch.look()
    assert Nodes(client).list() == {}

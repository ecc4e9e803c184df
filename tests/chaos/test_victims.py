"""Processes are told apart by their command lines, and what outlives the service is found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import pytest

from services.learner.actor import LearnerProcess
from services.reward.actor import RewardProcess
from services.rollout.actor import RolloutProcess
from tests.chaos.plan import Victim
from tests.chaos.victims import ACTORS, MARK, Family, alive, kind_of, ray_part

SLEEP = "import time; time.sleep(60)"
START_A_CHILD = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); time.sleep(60)"


@pytest.mark.parametrize(
    ("command", "kind", "part"),
    [
        (["python", "-m", "services.controller"], Victim.CONTROLLER, ""),
        (["python", "-m", "services.api"], Victim.API, ""),
        (["python", "-m", "services.reward"], Victim.GRADER, ""),
        (["python", "-I", "-X", "utf8", "-m", "services.reward.grader_process"], None, ""),
        (["/bin/redis-server unixsocket:/tmp/redis.sock"], Victim.REDIS, ""),
        (["ray::RolloutProcess.run"], Victim.ROLLOUT, ""),
        (["ray::RewardProcess"], Victim.REWARD, ""),
        (["ray::LearnerProcess.run"], Victim.LEARNER, ""),
        (["ray::DashboardAgent"], None, ""),
        (["VLLM::EngineCore"], Victim.ENGINE, ""),
        (["/site-packages/ray/core/src/ray/gcs/gcs_server", "--log_dir=x"], Victim.RAY, "gcs_server"),
        (["/site-packages/ray/core/src/ray/raylet/raylet", "--x"], Victim.RAY, "raylet"),
        (["python3", "/venv/bin/ray", "start", "--head"], Victim.RAY, "ray start"),
        ([], None, ""),
    ],
)
def test_kinds(command: list[str], kind: Victim | None, part: str) -> None:
    assert kind_of(command) is kind
    assert ray_part(command) == part


def test_the_titles_of_actors_are_those_of_their_classes() -> None:
    classes = {Victim.ROLLOUT: RolloutProcess, Victim.REWARD: RewardProcess, Victim.LEARNER: LearnerProcess}
    assert {kind: f"ray::{one.__name__}" for kind, one in classes.items()} == ACTORS


def test_orphans_are_found_by_their_mark_and_by_having_been_seen() -> None:
    mark = uuid.uuid4().hex
    environment = {**os.environ, MARK: mark}
    root = subprocess.Popen([sys.executable, "-c", START_A_CHILD], env=environment)
    family = Family(root.pid, mark)
    deadline = time.monotonic() + 20
    while not (children := family.living()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    root.kill()
    root.wait(10)
    family.close()
    [orphan] = children
    assert [line.split()[0] for line in family.survivors()] == [str(orphan.pid)]
    orphan.kill()
    while alive(orphan):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert family.survivors() == []

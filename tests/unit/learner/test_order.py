"""The learner's order of things, with a model that is a number: from any end to the same end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.job.guard import GuardSpec
from services.job.spec import EvaluationSpec
from services.journal.journal import Journal, audit
from services.learner.batches import batch_wait
from services.learner.errors import BatchTimeout, NoSuchCheckpoint
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.steps import Steps
from services.store.job.transitions import Status
from services.trajectories.ledger import Ledger
from services.trajectories.outcomes import Fenced
from services.trajectories.progress import Progress
from sspo_proto.trajectory_pb2 import Group
from tests.support.numbered import JOB, Job, Number


class Killed(BaseException):
    """The end of a process."""


def killed_at(step: int) -> Callable[[int], None]:
    def die(at: int) -> None:
        if at == step:
            raise Killed

    return die


@pytest.fixture
def job(client: Client, tmp_path: Path) -> Job:
    return Job(client, tmp_path)


def test_a_job_from_its_first_step_to_its_export(job: Job) -> None:
    assert job.learner().run() == "finished"
    assert job.model.asked == [
        "publish v1 of 0",
        *(asked for step in range(4) for asked in (f"train {step}", f"publish v{step + 2} of {step + 1}")),
        "export",
    ]
    assert job.steps() == [0, 1, 2, 3] and job.checkpoints() == [2, 4]
    assert (job.folder.export / "weight").read_text() == job.model.weight
    known = Progress(job.client).read(JOB)
    assert (known.phase, known.next_step, known.policy_version, known.published_step) == ("finished", 4, 5, 4)
    assert (known.records, known.trained_tokens, known.evaluation_step) == (4, 8, None)
    snapshot = Ledger(job.client).snapshot(JOB)
    assert (snapshot.trained, snapshot.in_flight) == (8, 4) and snapshot.balanced
    assert audit(job.folder.journal).trained == 8
    assert job.folder.spec.exists() and job.folder.gate.exists()
    last = Steps(job.client, job.layout).since(JOB)[-1]
    assert (last.epoch, last.policy_version, last.replayed, last.groups) == (1, 5, False, 2)
    assert last.waits.batch is not None and 0 <= last.waits.batch < 30
    assert last.waits.staleness == 0.0 and last.waits.publish is not None and last.waits.checkpoint is not None


@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_a_learner_that_is_killed_in_a_step_leads_to_the_same_bits(job: Job, client: Client, step: int) -> None:
    learner = job.learner()
    job.model.at_a_step = killed_at(step)
    with pytest.raises(Killed):
        learner.run()
    assert job.learner().run() == "finished"
    begun = 2 if step >= 2 else 0
    replayed = [f"train {number}" for number in range(begun, step + 1)]
    assert job.model.asked[: 1 + len(replayed)][-len(replayed) :] == replayed or job.model.asked[0] == replayed[0]
    assert job.model.asked[len(replayed) + bool(begun)] == f"publish v{step + 2} of {step + 1}", "nothing before"
    assert (job.model.asked[0] == "load 2") == bool(begun)
    weight = job.model.weight
    assert Ledger(client).snapshot(JOB).balanced
    assert audit(job.folder.journal).trained_twice == [] and job.steps() == [0, 1, 2, 3]
    assert weight == straight(job)


def straight(job: Job) -> str:
    """The weight after four steps without any accident."""
    model = Number()
    for header in Journal(job.folder.journal).headers():
        groups = [Group.FromString(payload) for payload in Journal(job.folder.journal).read(header.sequence).payloads]
        model.train(groups, header.step, job.spec) if groups else None
    return model.weight


def test_a_learner_that_is_stopped_leaves_a_checkpoint_and_goes_on_from_it(job: Job) -> None:
    learner = job.learner()
    job.model.at_a_step = lambda step: job.pulse.stop() if step == 0 else None
    assert learner.run() == "drained"
    assert job.checkpoints() == [1] and job.model.asked[-1] == "publish v2 of 1"
    assert job.learner().run() == "finished" and job.model.asked[:2] == ["load 1", "publish v3 of 1"]


def test_a_learner_that_is_replaced_ends_before_it_says_anything(job: Job) -> None:
    learner = job.learner()
    job.model.at_a_step = lambda step: Journal(job.folder.journal).claim_epoch() and None if step == 1 else None
    with pytest.raises(Fenced):
        learner.run()
    assert job.steps() == [0] and job.model.asked[-1] == "train 1"


def test_a_wait_for_machines_ends_and_one_for_a_person_does_not(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_wait, "CHECK_SECONDS", 0.1)
    job = Job(client, tmp_path, groups=1, learner={"wait_seconds": 1.0})
    with pytest.raises(BatchTimeout, match="step 0: 1 of 2 groups"):
        job.learner().run()
    Jobs(client).update(JOB, rollout_workers=0)
    learner = job.learner()
    wait, waits = job.pulse.wait, iter(range(40))

    def until_enough(seconds: float) -> None:
        wait(seconds)
        if next(waits, None) is None:
            job.pulse.stop()

    job.pulse.wait = until_enough  # type: ignore[method-assign]
    assert learner.run() == "drained"


def test_what_redis_forgets_in_a_wait_is_told_again(client: Client, tmp_path: Path) -> None:
    job = Job(client, tmp_path, groups=2)
    learner = job.learner()
    wait = job.pulse.wait

    def forgets(seconds: float) -> None:
        client.delete(f"sspo:job:{JOB}:progress")
        learner._remind()
        job.pulse.stop()
        wait(0.0)

    job.pulse.wait = forgets  # type: ignore[method-assign]
    assert learner.run() == "drained"
    known = Progress(client).read(JOB)
    assert (known.next_step, known.policy_version, known.records) == (1, 2, 1)


def test_an_evaluation_is_wanted_before_the_first_step(client: Client, tmp_path: Path) -> None:
    evaluated = {"evaluation": EvaluationSpec(samples=1, every=3), "validation_file": "file-2"}
    job = Job(client, tmp_path, **evaluated)
    wanted: list[int | None] = []
    learner = job.learner()
    job.model.at_a_step = lambda step: wanted.append(Progress(client).read(JOB).evaluation_step)
    learner.run()
    assert [*wanted, Progress(client).read(JOB).evaluation_step] == [0, 0, 0, 3, 4]


def guarded(*actions: str) -> dict[str, Any]:
    limits = {"window_steps": 1, "cooldown_steps": 1, "kl_k3": {"enter": 0.03, "leave": 0.01}}
    return {"guard": GuardSpec.model_validate({"actions": actions, **limits})}


def test_a_rollback_undoes_the_steps_behind_its_checkpoint(client: Client, tmp_path: Path) -> None:
    job = Job(client, tmp_path, groups=20, **guarded("rollback"))
    learner = job.learner()
    job.model.kl = {2: 1.0}
    job.model.at_a_step = lambda step: setattr(job.model, "kl", {}) if "load 2" in job.model.asked else None
    assert learner.run() == "finished"
    assert job.model.asked[0] == "publish v1 of 0" and job.model.asked.count("train 2") == 2
    report = audit(job.folder.journal)
    assert (report.steps, report.trained, report.dropped["rolled_back"]) == (4, 8, 2) and report.trained_twice == []
    assert job.steps() == [0, 1, 2, 3] and Ledger(client).snapshot(JOB).balanced
    kinds = [header.kind for header in Journal(job.folder.journal).headers()]
    assert kinds[:4] == ["step", "step", "step", "rollback"]


def test_a_rollback_to_a_checkpoint_that_is_not_there_changes_nothing(job: Job) -> None:
    learner = job.learner()
    assert learner.run() == "finished"
    for to_step in (1, 4, 9):
        with pytest.raises(NoSuchCheckpoint, match=r"kept of steps \[2, 4\]"):
            learner.rollback(to_step)
    assert audit(job.folder.journal).records == 4


@pytest.mark.parametrize("dies", [False, True])
def test_a_pause_that_the_guard_decided_is_asked_for_though_its_learner_dies(
    client: Client, tmp_path: Path, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(client, tmp_path, **guarded("pause"))
    learner = job.learner()
    job.model.kl = {1: 1.0}
    if dies:
        monkeypatch.setattr(learner, "_obey", lambda action: (_ for _ in ()).throw(Killed) if action else None)
        with pytest.raises(Killed):
            learner.run()
        assert Jobs(client).get(JOB).status is Status.RUNNING
        learner = job.learner()
        job.model.kl = {1: 1.0}
    assert learner.run() == "drained"
    assert Jobs(client).get(JOB).status is Status.PAUSING and job.model.state.next_step == 2

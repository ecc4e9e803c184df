"""The learner on real Redis, disk and model: exactly once, and the same bits after a crash."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

from services.disk.files import whole_lines
from services.disk.layout import Layout
from services.learner.errors import BatchTimeout, TrainingDiverged
from services.learner.model.trainer import Trainer
from services.learner.opening import open_learner
from services.records.step import StepFigures
from services.store import keys
from services.store.client import Client
from services.store.job.steps import Checkpoints, Steps
from services.trajectories import streams
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from tests.support.audit import audit
from tests.support.counted import Counted
from tests.support.learning import exported, fill, put, run_until_it_waits, same_bits
from tests.support.tiny import create_job, job_spec
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def groups(groups: list[bytes]) -> list[bytes]:
    """Three steps of them."""
    return groups[:6]


def test_a_job_is_trained_journaled_published_and_exported(client: Client, layout: Layout, groups: list[bytes]) -> None:
    spec, counted = job_spec(), Counted()
    fill(client, spec, groups)
    assert open_learner(spec, client, layout).run() == "finished"
    assert counted("sspo_is_ratio_count") == 3 * 48 and counted("sspo_is_ratio_count", staleness="0") == 48
    assert counted("sspo_seq_is_ratio_count") == counted("sspo_staleness_steps_count") == 3 * 8
    assert counted("sspo_staleness_steps_sum") == 8 * (0 + 1 + 2)
    assert counted("sspo_learner_step_duration_seconds_count") == 3
    assert counted("sspo_learner_wait_seconds_total", cause="publish") > 0
    snapshot = Ledger(client).snapshot(spec.job_id)
    assert (snapshot.trained, snapshot.in_flight, snapshot.balanced) == (6, 0, True)
    report = audit(layout.job(spec.job_id).journal)
    assert report.clean and (report.steps, report.trained, report.last_cursor) == (3, 6, 6)
    records = Steps(client, layout).since(spec.job_id)
    assert [record.step for record in records] == [0, 1, 2]
    assert records[0].drift.mismatch_kl_k3 == pytest.approx(0.0, abs=1e-9), "same weights, same log-probs"
    assert records[0].drift.ratio_mean == pytest.approx(1.0, abs=1e-4)
    measured = [record.drift.mismatch and record.drift.mismatch.step for record in records]
    assert measured == [0, 0, 0], "no token of step 2 is on-policy: what was measured last, and when"
    [sample] = [json.loads(line) for line in whole_lines(layout.job(spec.job_id).samples)]
    lengths = {
        len(values) for row in sample["trajectories"] for name, values in row.items() if isinstance(values, list)
    }
    assert (sample["step"], len(sample["trajectories"]), lengths) == (0, 4, {6})
    assert all(abs(z) < 1e-4 for row in sample["trajectories"] for z in row["log_ratios"])
    curve = json.loads(layout.job(spec.job_id).gate.read_bytes())
    at_one = curve["log_ratio"].index(0.0)
    assert (curve["positive"][at_one], curve["negative"][at_one]) == (1.0, 1.0)
    assert [record.step for record in Checkpoints(client).list(spec.job_id)] == [2, 3]
    progress = Progress(client).read(spec.job_id)
    assert (progress.policy_version, progress.published_step, progress.phase) == (4, 3, "finished")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(layout.model("tiny")).state_dict()
    assert any(not torch.equal(tensor, base[name]) for name, tensor in exported(layout, spec).items())


@pytest.mark.parametrize("updates_per_step", [1, 2])
def test_a_killed_learner_goes_on_to_the_same_bits(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch, updates_per_step: int
) -> None:
    calm, hit = (job_spec(f"ftjob-{name}", updates_per_step=updates_per_step) for name in ("calm", "hit"))
    for spec in (calm, hit):
        fill(client, spec, groups)
    open_learner(calm, client, layout).run()

    train = Trainer.train

    def dies_between_journal_and_training(self: Trainer, batch: Any, step: int) -> StepFigures:
        if step == 2 and self.state.updates == step * updates_per_step:
            raise KeyboardInterrupt("killed")
        return train(self, batch, step)

    monkeypatch.setattr(Trainer, "train", dies_between_journal_and_training)
    with pytest.raises(KeyboardInterrupt):
        open_learner(hit, client, layout).run()
    monkeypatch.undo()
    assert open_learner(hit, client, layout).run() == "finished"
    expected, got = exported(layout, calm), exported(layout, hit)
    assert same_bits(expected, got)
    report = audit(layout.job(hit.job_id).journal)
    assert report.clean and report.steps == 3


def test_a_shorter_memory_of_redis_is_asserted_again(client: Client, layout: Layout, groups: list[bytes]) -> None:
    spec = job_spec()
    fill(client, spec, groups[:4])
    learner = open_learner(spec, client, layout)
    assert run_until_it_waits(learner, step=2) == "drained"
    client.flushall()
    create_job(client, spec)
    streams.prepare(client, spec.job_id)
    put(client, spec, {number: groups[number] for number in (3, 4, 5)})  # 3 was trained already
    assert open_learner(spec, client, layout).run() == "finished"
    report = audit(layout.job(spec.job_id).journal)
    assert report.clean and report.trained == 6
    assert Ledger(client).snapshot(spec.job_id).balanced
    assert Progress(client).read(spec.job_id).policy_version > 3, "versions go on growing from the disk"


def test_a_waiting_learner_reminds_a_redis_that_forgot(client: Client, layout: Layout, groups: list[bytes]) -> None:
    spec = job_spec()
    fill(client, spec, groups[:2])
    learner = open_learner(spec, client, layout)
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(learner.run()), daemon=True)
    thread.start()
    wait_until(lambda: learner.pulse.phase == "waiting_for_batch" and learner.step == 1)
    before = Progress(client).read(spec.job_id)
    client.delete(keys.progress(spec.job_id), keys.finished(spec.job_id))
    wait_until(lambda: Progress(client).read(spec.job_id) == replace(before, trained_tokens=0))
    assert Ledger(client).snapshot(spec.job_id).trained == 2
    learner.pulse.stop()
    thread.join(20)
    assert ended == ["drained"]


def test_non_finite_updates_are_skipped_counted_and_fail_the_job_in_the_end(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = job_spec(max_skipped_updates=1)
    fill(client, spec, groups)
    monkeypatch.setattr(
        "services.learner.model.policy.Policy.logprobs",
        lambda self, batch, temperature, entropy=False: (
            self.model.lm_head.weight.sum() * float("nan") + batch.behaviour_logprobs,
            torch.zeros_like(batch.behaviour_logprobs),
        ),
    )
    with pytest.raises(TrainingDiverged):
        open_learner(spec, client, layout).run()
    records = Steps(client, layout).since(spec.job_id)
    assert [record.skipped_updates_total for record in records] == [1]


def test_waiting_for_a_batch_has_a_deadline(client: Client, layout: Layout, groups: list[bytes]) -> None:
    spec = job_spec(wait_seconds=1.0)
    fill(client, spec, groups[:1])
    with pytest.raises(BatchTimeout, match="1 of 2 groups"):
        open_learner(spec, client, layout).run()

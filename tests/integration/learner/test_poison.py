"""Records that kill their learner: they are skipped after three deaths, and the job fails when all of them kill."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from services.controller.issuing.capacity import capacity
from services.disk.layout import Layout
from services.learner.errors import AttemptFailed, TooManySkips
from services.learner.model.trainer import Trainer
from services.learner.opening import open_learner
from services.learner.recovery import checkpoint
from services.records.step import StepFigures
from services.store.client import Client
from services.store.job.events import Events
from services.trajectories.ledger import Ledger
from tests.support.audit import audit
from tests.support.learning import (
    assert_ledger,
    fill,
    flip,
    put,
    renamed,
    run_until_it_waits,
    single,
)
from tests.support.tiny import job_spec

pytestmark = pytest.mark.timeout(120)


def poisoned(monkeypatch: pytest.MonkeyPatch, numbers: set[int], error: BaseException) -> None:
    """Training a batch with one of these numbers ends the learner, as if by itself."""
    train = Trainer.train

    def patched(self: Trainer, batch: Any, step: int) -> StepFigures:
        if numbers & {group.task.group_number for group in batch}:
            raise error
        return train(self, batch, step)

    monkeypatch.setattr(Trainer, "train", patched)


@pytest.mark.parametrize(
    ("error", "raised", "cause"),
    [
        (KeyboardInterrupt("killed"), KeyboardInterrupt, "killed"),
        (torch.OutOfMemoryError("CUDA out of memory"), AttemptFailed, "out_of_memory"),
    ],
)
def test_a_record_that_kills_its_learner_three_times_is_skipped_and_the_job_makes_all_its_steps(
    client: Client,
    layout: Layout,
    groups: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
    cause: str,
) -> None:
    spec = job_spec(max_staleness=9)  # three steps of two groups
    fill(client, spec, groups[:6])
    poisoned(monkeypatch, {3}, error)
    for _ in range(3):
        with pytest.raises(raised):
            open_learner(spec, client, layout).run()
    learner = open_learner(spec, client, layout)
    assert run_until_it_waits(learner, step=2) == "drained"
    assert_ledger(client, spec, trained=4, poison=2)
    issued = capacity(
        spec.learner, next_step=2, published_step=2, trained=Ledger(client).snapshot(spec.job_id).trained, in_flight=0
    )
    assert issued.groups == 2, "one more batch, for the one that was lost"
    put(client, spec, {number: renamed(groups[number], spec.job_id, number) for number in (6, 7)})
    assert open_learner(spec, client, layout).run() == "finished"
    assert_ledger(client, spec, trained=6, poison=2)
    report = audit(layout.job(spec.job_id).journal)
    assert report.clean and (report.steps, report.trained, report.dropped) == (3, 6, {"poison": 2})
    events = [event.message for event in Events(client).list(spec.job_id, limit=100)[0]]
    assert (
        f"The batch of step 1 ended 3 learners ({', '.join([cause] * 3)}): its 2 groups are dropped as poison" in events
    )
    assert not list(layout.job(spec.job_id).journal.glob("*.attempt.*"))


def test_an_old_record_that_kills_in_a_replay_takes_the_later_ones_with_it(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=5, checkpoint_every=9)
    fill(client, spec, groups[:4])
    learner = open_learner(spec, client, layout)
    assert run_until_it_waits(learner, step=4) == "drained"
    for path in checkpoint.stored(layout.job(spec.job_id).checkpoints):
        flip(path / "state.json")
    poisoned(monkeypatch, {1}, KeyboardInterrupt())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            open_learner(spec, client, layout).run()
    put(client, spec, {number: renamed(groups[number], spec.job_id, number) for number in range(4, 8)})
    assert open_learner(spec, client, layout).run() == "finished"
    assert_ledger(client, spec, trained=5, poison=1, rolled_back=2)
    assert audit(layout.job(spec.job_id).journal).clean


def test_when_every_record_kills_the_job_fails_with_the_cause_and_a_resume_tries_again(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = single(steps=4)
    fill(client, spec, groups[:8])
    with monkeypatch.context() as patched:
        poisoned(patched, set(range(8)), MemoryError())
        for _ in range(12):
            with pytest.raises(AttemptFailed):
                open_learner(spec, client, layout).run()
        with pytest.raises(TooManySkips, match="it is not the records") as caught:
            open_learner(spec, client, layout).run()
        assert caught.value.code == "out_of_memory"
    assert open_learner(spec, client, layout).run() == "finished", "with more memory"
    report = audit(layout.job(spec.job_id).journal)
    assert (report.trained, report.dropped) == (4, {"poison": 3})

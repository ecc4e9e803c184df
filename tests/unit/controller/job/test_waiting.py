"""What a job says it waits for: a person reads it to know what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.controller.issuing.capacity import Capacity, Limit
from services.controller.job.waiting import LEARNER_PHASES, Situation, situation_of
from services.records.worker import WorkerRecord
from services.store.job.record import JobRecord
from services.store.job.waits import WaitKey
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.progress import ProgressRecord
from tests.support.tiny import job_spec

LEDGER = LedgerSnapshot(8, 0, {}, 8, {"scored": 1}, ())


def record(rollout: int = 1, reward: int = 1) -> JobRecord:
    spec = job_spec()
    return JobRecord(
        id=spec.job_id, created_at=0, request={}, spec=spec, rollout_workers=rollout, reward_workers=reward
    )


def workers(*kinds: str) -> list[WorkerRecord]:
    return [
        WorkerRecord(id=f"{kind}-{n}", kind=kind, state="ready", policy_version=1, node="n", pid=1, heartbeat=0.0)
        for n, kind in enumerate(kinds)
    ]


def words(job: JobRecord, *kinds: str) -> str:
    progress = ProgressRecord(phase="waiting_for_batch", next_step=3)
    found = situation_of(job, progress, workers("learner", *kinds), LEDGER, None)
    assert found.stage == "sampling"
    return found.wait.words


@pytest.mark.parametrize(
    ("there", "waited_for"),
    [
        (("rollout", "reward"), "a full batch for step 3: 1 of 2 groups are scored"),
        (("reward", "reward"), "rollout workers to become ready (0 of 1)"),
        (("rollout", "rollout"), "reward workers to become ready (0 of 1)"),
        ((), "rollout workers to become ready (0 of 1)"),
    ],
)
def test_a_worker_of_one_kind_does_not_stand_for_the_other(there: tuple[str, ...], waited_for: str) -> None:
    assert words(record(), *there) == waited_for


def test_a_job_that_wants_no_workers_says_how_to_start_some() -> None:
    assert words(record(rollout=0), "reward") == (
        "rollout workers: replicas is 0; PUT /v1/x/jobs/ftjob-1/rollout_workers starts some"
    )
    assert "/reward_workers starts some" in words(record(reward=0), "rollout")
    assert words(record(rollout=0), "rollout", "reward").startswith("a full batch"), "the last one is still draining"


@pytest.mark.parametrize("phase", ["", "starting", "replaying", "training", "publishing", "checkpointing", "exporting"])
def test_while_the_learner_works_it_is_waited_for(phase: str) -> None:
    found = situation_of(record(), ProgressRecord(phase=phase, next_step=3), [], LEDGER, None)
    assert found == Situation(phase or "starting", replace(LEARNER_PHASES[phase], step=3))


def test_a_phase_of_a_newer_learner_is_shown_as_it_is() -> None:
    found = situation_of(record(), ProgressRecord(phase="folding"), [], LEDGER, None)
    assert (found.stage, found.wait.words, found.wait.key) == ("folding", "folding", WaitKey.LEARNER)


@pytest.mark.parametrize("phase", ["training", "waiting_for_batch"])
def test_queues_that_are_full_are_named_and_the_wait_stays_the_same(phase: str) -> None:
    def found(capacity: Capacity) -> Situation:
        return situation_of(record(), ProgressRecord(phase=phase), workers("rollout", "reward"), LEDGER, capacity)

    free, full = found(Capacity(3, Limit.BYTES)), found(Capacity(0, Limit.BYTES))
    assert free == found(Capacity(0, Limit.STALENESS)), "a window that is full is how it should be"
    assert full.wait.words.startswith(free.wait.words) and full.wait.words != free.wait.words
    assert "no more groups are issued above 1073741824 max_queued_bytes" in full.wait.words
    assert (full.wait.key, full.wait.step) == (free.wait.key, free.wait.step)

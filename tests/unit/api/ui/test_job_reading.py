"""What the pages read of a job: each step once, and never one of a lineage that was rolled back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.api.dependencies import Service
from services.api.ui import job_reading as reading
from services.api.ui.job_reading import JobReading, JobsReading
from services.records.step import StepRecord
from services.settings.processes import ApiSettings
from services.store.client import Client
from services.store.job.jobs import JobNotFound, Jobs
from services.store.job.steps import KEPT
from services.store.job.transitions import Status
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


@pytest.fixture
def service(redis_url: str, client: Client, tmp_path: Path) -> Service:
    create_job(client, job_spec(JOB))
    return Service.open(ApiSettings(data=tmp_path, redis_url=redis_url, api_key="sk"))


def put(service: Service, step: int, reward: float) -> None:
    service.steps.put(JOB, StepRecord(step=step, time=1000 * reward + step, reward_mean=reward))


def rewards(job: JobReading) -> list[float]:
    series = job.look().series
    assert series.steps().tolist() == list(range(len(series)))
    return [float(reward) for reward in series.column("reward")]


def test_new_steps_are_added_and_known_ones_not_read_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job = JobReading(service, JOB)
    assert rewards(job) == []
    for step in range(3):
        put(service, step, 1.0)
    assert rewards(job) == [1.0] * 3
    first = job.look().series

    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing is new")

    with monkeypatch.context() as patch:
        patch.setattr(type(service.steps), "since", refuse)
        patch.setattr(reading, "whole_lines", refuse)
        assert job.look().series is first
    put(service, 3, 2.0)
    monkeypatch.setattr(reading, "whole_lines", refuse)
    assert rewards(job) == [1.0, 1.0, 1.0, 2.0]
    assert len(first) == 3, "a look that was shown stays as it was"


def test_a_long_job_is_read_from_disk_and_goes_on_from_there(service: Service) -> None:
    for step in range(KEPT + 50):
        put(service, step, 1.0)
    job = JobReading(service, JOB)
    assert len(rewards(job)) == KEPT + 50
    put(service, KEPT + 50, 2.0)
    assert rewards(job)[-2:] == [1.0, 2.0]


@pytest.mark.parametrize(("back_to", "up_to"), [(5, 6), (5, 10), (5, 11), (0, 3), (0, 14)])
def test_a_rollback_is_seen_wherever_the_job_is_by_then(service: Service, back_to: int, up_to: int) -> None:
    for step in range(10):
        put(service, step, 1.0)
    job = JobReading(service, JOB)
    assert rewards(job) == [1.0] * 10
    for step in range(back_to, up_to):
        put(service, step, 2.0)
    assert rewards(job) == [1.0] * back_to + [2.0] * (up_to - back_to)


def test_findings_come_with_the_look_and_know_older_rewards(service: Service) -> None:
    job = JobReading(service, JOB)
    for step in range(20):
        put(service, step, 1.0)
    job.look()
    for step in range(20, 30):
        put(service, step, 0.1)
    assert "reward_collapsed" in [finding.name for finding in job.look().findings]


def test_a_job_that_is_not_there(service: Service) -> None:
    with pytest.raises(JobNotFound):
        JobReading(service, "ftjob-none").look()


def test_rows_of_ended_jobs_are_read_once_until_they_go_on(service: Service, client: Client) -> None:
    jobs, listing = Jobs(client), JobsReading(service)
    assert [row.record.status for row in listing.look().rows] == [Status.VALIDATING_FILES]
    jobs.transition(JOB, Status.FAILED, by="test")
    first = listing.look()
    assert listing.look().rows[0] is first.rows[0]
    assert first.counts[Status.FAILED] == 1
    jobs.transition(JOB, Status.QUEUED, by="test")
    assert listing.look().rows[0].record.status is Status.QUEUED

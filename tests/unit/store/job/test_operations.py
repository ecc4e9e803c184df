"""Scaling, repeatable without harm."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import JobNotFound, Jobs
from services.store.job.operations import OperationConflict, Operations, Scaled
from services.store.job.transitions import IllegalTransition, Status


def test_the_last_write_wins(client: Client, make_record: Any) -> None:
    Jobs(client).create(make_record())
    operations = Operations(client)
    assert operations.scale("ftjob-1", "rollout", 3, by="test") == Scaled(3, 1, True)
    assert operations.scale("ftjob-1", "rollout", 0, by="test") == Scaled(0, 3, True)
    assert operations.scale("ftjob-1", "reward", 2, by="test") == Scaled(2, 1, True)
    record = Jobs(client).get("ftjob-1")
    assert (record.rollout_workers, record.reward_workers) == (0, 2)
    event = Events(client).list("ftjob-1")[0][0]
    assert event.data == {"kind": "reward", "replicas": 2, "by": "test", "operation_id": None}


def test_a_repeated_operation_does_not_undo_what_came_after(client: Client, make_record: Any) -> None:
    jobs, operations = Jobs(client), Operations(client)
    jobs.create(make_record())
    assert operations.scale("ftjob-1", "rollout", 3, by="test", operation_id="a").applied is True
    operations.scale("ftjob-1", "rollout", 5, by="test", operation_id="b")
    assert operations.scale("ftjob-1", "rollout", 3, by="test", operation_id="a").applied is False
    assert jobs.get("ftjob-1").rollout_workers == 5
    assert len(Events(client).follow("ftjob-1")) == 3


@pytest.mark.parametrize(("kind", "replicas"), [("rollout", 4), ("reward", 3)])
def test_an_operation_id_means_one_body(client: Client, make_record: Any, kind: Any, replicas: int) -> None:
    jobs, operations = Jobs(client), Operations(client)
    jobs.create(make_record())
    operations.scale("ftjob-1", "rollout", 3, by="test", operation_id="a")
    with pytest.raises(OperationConflict, match="'a'"):
        operations.scale("ftjob-1", kind, replicas, by="test", operation_id="a")
    record = jobs.get("ftjob-1")
    assert (record.rollout_workers, record.reward_workers) == (3, 1)


def test_what_cannot_be_scaled_says_why(client: Client, make_record: Any) -> None:
    Jobs(client).create(make_record(status=Status.SUCCEEDED))
    with pytest.raises(IllegalTransition, match="succeeded"):
        Operations(client).scale("ftjob-1", "rollout", 3, by="test")
    with pytest.raises(JobNotFound, match="ftjob-0"):
        Operations(client).scale("ftjob-0", "rollout", 3, by="test")
    assert Jobs(client).get("ftjob-1").rollout_workers == 1


def test_a_change_is_told_with_what_it_came_to(client: Client, make_record: Any) -> None:
    Jobs(client).create(make_record())
    Operations(client).scale("ftjob-1", "rollout", 3, by="a person", operation_id="a")
    event = Events(client).list("ftjob-1")[0][0]
    assert (event.message, event.level, event.type) == ("Rollout workers wanted: 3", "info", "message")
    assert event.data == {"kind": "rollout", "replicas": 3, "by": "a person", "operation_id": "a"}
    assert abs(event.created_at - time.time()) < 30


def test_a_failed_job_can_be_scaled_for_its_resume(client: Client, make_record: Any) -> None:
    Jobs(client).create(make_record(status=Status.FAILED))
    assert Operations(client).scale("ftjob-1", "rollout", 2, by="test") == Scaled(2, 1, True)


def test_the_same_operation_on_another_job_is_another_operation(client: Client, make_record: Any) -> None:
    for job_id in ("ftjob-1", "ftjob-2"):
        Jobs(client).create(make_record(job_id))
        assert Operations(client).scale(job_id, "rollout", 3, by="test", operation_id="a").applied
    again = Operations(client).scale("ftjob-1", "rollout", 3, by="test", operation_id="a")
    assert again == Scaled(3, 3, False)
    with pytest.raises(OperationConflict) as conflict:
        Operations(client).scale("ftjob-1", "reward", 3, by="test", operation_id="a")
    assert conflict.value.operation_id == "a"

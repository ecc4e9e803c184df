"""Job records against a real Redis."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import ValidationError

from services.store.client import Client, connect
from services.store.index import UnknownCursor
from services.store.job.events import Events
from services.store.job.jobs import JobError, JobNotFound, Jobs, WaitingFor
from services.store.job.transitions import CANCEL, PAUSE, RESUME, TRANSITIONS, IllegalTransition, Status

S = Status


@pytest.fixture
def jobs(client: Client) -> Jobs:
    return Jobs(client)


def test_a_record_comes_back_as_it_was_stored(jobs: Jobs, make_record: Any) -> None:
    record = make_record(
        metadata={"a": "b"}, error=JobError(code="c", message="m"), waiting_for=WaitingFor(what="x", since=1.5)
    )
    assert jobs.create(record) is True
    assert jobs.get(record.id) == record


def test_creating_twice_changes_nothing(jobs: Jobs, client: Client, make_record: Any) -> None:
    jobs.create(make_record(created_at=100))
    assert jobs.create(make_record(created_at=200)) is False
    assert jobs.get("ftjob-1").created_at == 100
    assert len(Events(client).follow("ftjob-1")) == 1


def test_a_missing_job_is_named(jobs: Jobs) -> None:
    for use in (
        lambda: jobs.get("ftjob-0"),
        lambda: jobs.update("ftjob-0", stage="x"),
        lambda: jobs.transition("ftjob-0", S.RUNNING, by="test"),
    ):
        with pytest.raises(JobNotFound, match="ftjob-0"):
            use()
    assert jobs.ids() == []


@pytest.mark.parametrize("current", list(Status))
@pytest.mark.parametrize("to", list(Status))
def test_transitions_follow_the_table(jobs: Jobs, make_record: Any, current: Status, to: Status) -> None:
    jobs.create(make_record(status=current))
    if to is current:
        assert jobs.transition("ftjob-1", to, by="test") is False
    elif to in TRANSITIONS[current]:
        assert jobs.transition("ftjob-1", to, by="test") is True
        assert jobs.get("ftjob-1").status is to
    else:
        with pytest.raises(IllegalTransition) as refused:
            jobs.transition("ftjob-1", to, by="test")
        assert (refused.value.job_id, refused.value.current, refused.value.to) == ("ftjob-1", current, to)
        assert jobs.get("ftjob-1").status is current


def test_a_transition_writes_status_fields_and_event_together(jobs: Jobs, client: Client, make_record: Any) -> None:
    jobs.create(make_record(status=S.RUNNING))
    error = JobError(code="learner_failed", message="diverged", param=None)
    jobs.transition("ftjob-1", S.FAILED, by="controller", message="The learner diverged", error=error)
    record = jobs.get("ftjob-1")
    assert (record.status, record.error, record.stage) == (S.FAILED, error, "failed")
    assert record.finished_at is not None
    event = Events(client).list("ftjob-1")[0][0]
    assert (event.message, event.level) == ("The learner diverged", "error")
    assert event.data == {"from": "running", "to": "failed", "by": "controller"}


def test_a_repeated_transition_writes_nothing(jobs: Jobs, client: Client, make_record: Any) -> None:
    jobs.create(make_record(status=S.CANCELLED, stage="as it was"))
    assert jobs.transition("ftjob-1", S.CANCELLED, by="test", stage="changed") is False
    assert jobs.get("ftjob-1").stage == "as it was"
    assert len(Events(client).follow("ftjob-1")) == 1


def test_resuming_a_failed_job_forgets_how_it_ended(jobs: Jobs, make_record: Any) -> None:
    ended = {"finished_at": 5, "error": JobError(code="c", message="m"), "cleaned_as": S.FAILED}
    jobs.create(make_record(status=S.FAILED, **ended))
    assert jobs.act("ftjob-1", RESUME, by="test") is True
    record = jobs.get("ftjob-1")
    assert (record.status, record.finished_at, record.error, record.cleaned_as) == (S.QUEUED, None, None, None)
    assert record.waiting_for is not None


@pytest.mark.parametrize(("current", "to"), [(S.QUEUED, S.PAUSED), (S.RUNNING, S.PAUSING)])
def test_a_pause_goes_where_the_job_allows(jobs: Jobs, make_record: Any, current: Status, to: Status) -> None:
    jobs.create(make_record(status=current))
    assert jobs.act("ftjob-1", PAUSE, by="test") is True
    assert jobs.get("ftjob-1").status is to
    assert jobs.act("ftjob-1", PAUSE, by="test") is False


def test_only_one_of_many_concurrent_transitions_happens(redis_url: str, jobs: Jobs, make_record: Any) -> None:
    jobs.create(make_record(status=S.RUNNING))
    outcomes: list[Any] = []
    barrier = threading.Barrier(8)

    def go(index: int) -> None:
        own = connect(redis_url)
        barrier.wait(10)
        try:
            moved = Jobs(own).transition("ftjob-1", S.SUCCEEDED if index % 2 else S.CANCELLED, by=str(index))
            outcomes.append(moved)
        except IllegalTransition:
            outcomes.append("refused")
        finally:
            own.close()

    threads = [threading.Thread(target=go, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 3
    assert outcomes.count("refused") == 4


def test_update_checks_names_and_values(jobs: Jobs, make_record: Any) -> None:
    jobs.create(make_record())
    jobs.update("ftjob-1", stage="sampling", waiting_for=WaitingFor(what="a batch", since=3.0), trained_tokens=7)
    record = jobs.get("ftjob-1")
    assert (record.stage, record.waiting_for, record.trained_tokens) == (
        "sampling",
        WaitingFor(what="a batch", since=3.0),
        7,
    )
    with pytest.raises(TypeError, match="stagee"):
        jobs.update("ftjob-1", stagee="x")
    with pytest.raises(TypeError, match="status"):
        jobs.update("ftjob-1", status=S.RUNNING)
    with pytest.raises(ValidationError):
        jobs.update("ftjob-1", trained_tokens="many")


def test_pages_are_newest_first_and_stable_under_inserts(jobs: Jobs, make_record: Any) -> None:
    for number in range(5):
        jobs.create(make_record(f"ftjob-{number}", created_at=100 + number))
    first, more = jobs.list(limit=2)
    assert [record.id for record in first] == ["ftjob-4", "ftjob-3"]
    assert more is True
    jobs.create(make_record("ftjob-9", created_at=200))
    second, more = jobs.list(after="ftjob-3", limit=3)
    assert [record.id for record in second] == ["ftjob-2", "ftjob-1", "ftjob-0"]
    assert more is False
    assert jobs.ids() == ["ftjob-0", "ftjob-1", "ftjob-2", "ftjob-3", "ftjob-4", "ftjob-9"]
    with pytest.raises(UnknownCursor, match="ftjob-7"):
        jobs.list(after="ftjob-7")


def test_the_metadata_filter_looks_past_the_first_chunk(jobs: Jobs, make_record: Any) -> None:
    for number in range(120):
        jobs.create(make_record(f"ftjob-{number:03}", created_at=number, metadata={"third": str(number % 3), "n": "x"}))
    found, more = jobs.list(limit=50, metadata={"third": "1", "n": "x"})
    assert len(found) == 40
    assert more is False
    assert {record.request["metadata"]["third"] for record in found} == {"1"}
    assert jobs.list(metadata={"third": "1", "n": "y"}) == ([], False)


def test_statuses_lists_every_job(jobs: Jobs, make_record: Any) -> None:
    jobs.create(make_record("ftjob-1", created_at=1))
    jobs.create(make_record("ftjob-2", created_at=2, status=S.RUNNING))
    assert jobs.statuses() == {"ftjob-1": S.VALIDATING_FILES, "ftjob-2": S.RUNNING}


def test_cancel_reaches_every_job_that_is_not_final(jobs: Jobs, make_record: Any) -> None:
    for status in Status:
        job_id = f"ftjob-{status}"
        jobs.create(make_record(job_id, status=status))
        if status is S.SUCCEEDED:
            with pytest.raises(IllegalTransition):
                jobs.act(job_id, CANCEL, by="test")
        else:
            jobs.act(job_id, CANCEL, by="test")
            assert jobs.get(job_id).status is S.CANCELLED

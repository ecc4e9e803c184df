"""Job records against a real Redis."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pydantic import ValidationError

from services.store import keys
from services.store.client import Client, connect
from services.store.index import UnknownCursor
from services.store.job.events import Events
from services.store.job.jobs import JobNotFound, Jobs
from services.store.job.record import JobError, JobUnreadable, WaitingFor
from services.store.job.transitions import CANCEL, PAUSE, RESUME, TRANSITIONS, IllegalTransition, Status
from services.store.job.waits import Wait, WaitKey

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


def test_a_trained_models_name_says_what_it_was_made_of(make_record: Any) -> None:
    record = make_record("ftjob-abc")
    assert record.model_name == "ft:tiny:sspo::abc"
    named = record.model_copy(
        update={
            "request": {"suffix": "mine"},
            "spec": record.spec.model_copy(update={"model": "org/base"}),
        }
    )
    assert named.model_name == "ft:base:sspo:mine:abc"


def test_a_new_record_is_at_the_beginning_of_everything(make_record: Any) -> None:
    record = make_record()
    assert (record.status, record.stage) == (S.VALIDATING_FILES, "validating_files")
    assert (record.running_since, record.trained_tokens, record.result_files) == (0.0, 0, [])
    unset = (record.finished_at, record.waiting_for, record.error, record.fine_tuned_model, record.cleaned_as)
    assert unset == (None,) * 5
    for kind in ("rollout_workers", "reward_workers"):
        assert getattr(make_record(**{kind: 0}), kind) == 0
        with pytest.raises(ValidationError):
            make_record(**{kind: -1})


def test_a_record_that_cannot_be_read_is_named_and_left_out_of_lists(
    jobs: Jobs, client: Client, make_record: Any
) -> None:
    for number in range(3):
        jobs.create(make_record(f"ftjob-{number}", created_at=number))
    client.hset(keys.job("ftjob-1"), "spec", "{not json")
    with pytest.raises(JobUnreadable, match="the record of job 'ftjob-1' can't be read") as unreadable:
        jobs.get("ftjob-1")
    assert unreadable.value.job_id == "ftjob-1"
    assert [record.id for record in jobs.list()[0]] == ["ftjob-2", "ftjob-0"]
    assert len(jobs.statuses()) == 3


def test_a_record_that_could_not_be_read_back_is_not_stored(jobs: Jobs, make_record: Any) -> None:
    broken = make_record().model_copy(update={"request": {"n": float("nan")}, "rollout_workers": -1})
    with pytest.raises(ValueError):
        jobs.create(broken)
    assert jobs.ids() == [] and jobs.list() == ([], False)


def test_the_first_event_is_of_the_creation(jobs: Jobs, client: Client, make_record: Any) -> None:
    jobs.create(make_record(created_at=123))
    [event] = Events(client).follow("ftjob-1")
    assert (event.message, event.level, event.created_at) == ("Created the job", "info", 123)


def test_a_job_that_an_interrupted_creation_hid_is_listed_after_its_repeat(
    jobs: Jobs, client: Client, make_record: Any
) -> None:
    jobs.create(make_record(created_at=100))
    client.delete(keys.JOBS)  # the process died between record and list
    assert jobs.create(make_record(created_at=100)) is False
    assert jobs.ids() == ["ftjob-1"]
    jobs.create(make_record(created_at=999))
    assert client.zscore(keys.JOBS, "ftjob-1") == 100, "its place in the list stays"


def test_what_a_state_says_of_itself_when_it_is_entered(jobs: Jobs, client: Client, make_record: Any) -> None:
    jobs.create(make_record(status=S.QUEUED))
    jobs.transition("ftjob-1", S.RUNNING, by="controller")
    record, began = jobs.get("ftjob-1"), time.time()
    assert record.finished_at is None and record.stage == "running" and abs(record.running_since - began) < 30
    assert record.waiting_for is not None and record.waiting_for.what == "the first step"
    assert abs(record.waiting_for.since - began) < 30
    event = Events(client).list("ftjob-1")[0][0]
    assert (event.message, event.level) == ("The job is now running", "info")
    assert abs(event.created_at - began) < 30
    jobs.act("ftjob-1", PAUSE, by="a person")
    assert jobs.get("ftjob-1").running_since == record.running_since, "it was set to run when it was"
    jobs.act("ftjob-1", CANCEL, by="a person", stage="as said")
    record = jobs.get("ftjob-1")
    assert record.waiting_for is None and record.stage == "as said"
    assert record.finished_at is not None and abs(record.finished_at - began) < 30


def test_no_caller_sets_the_status_beside_a_transition(jobs: Jobs, make_record: Any) -> None:
    jobs.create(make_record(status=S.QUEUED))
    with pytest.raises(TypeError, match="status"):
        jobs.transition("ftjob-1", S.RUNNING, by="test", status=S.SUCCEEDED)
    assert jobs.get("ftjob-1").status is S.QUEUED


def test_an_update_meant_for_another_state_changes_nothing(jobs: Jobs, make_record: Any) -> None:
    jobs.create(make_record(status=S.FAILED, stage="failed"))
    jobs.update("ftjob-1", expected=S.RUNNING, stage="training")
    assert jobs.get("ftjob-1").stage == "failed"
    jobs.update("ftjob-1", expected=S.FAILED, stage="cleaned")
    assert jobs.get("ftjob-1").stage == "cleaned"


def test_the_metadata_filter_counts_only_what_it_wants(jobs: Jobs, make_record: Any) -> None:
    for number in range(4):
        metadata = {"k": "v"} if number % 2 else None
        jobs.create(make_record(f"ftjob-{number}", created_at=number, metadata=metadata))
    found, more = jobs.list(limit=1, metadata={"k": "v"})
    assert [record.id for record in found] == ["ftjob-3"] and more
    found, more = jobs.list(limit=2, metadata={"k": "v"})
    assert [record.id for record in found] == ["ftjob-3", "ftjob-1"] and not more


def test_a_refusal_names_job_state_and_wish(jobs: Jobs, make_record: Any) -> None:
    jobs.create(make_record(status=S.SUCCEEDED))
    with pytest.raises(IllegalTransition, match="job ftjob-1 is succeeded: resume is not possible"):
        jobs.act("ftjob-1", RESUME, by="test")


def test_a_wait_is_told_from_another_by_key_and_step_and_not_by_its_words() -> None:
    waiting = WaitingFor.of(Wait(WaitKey.BATCH, "1 of 2 groups", 3), since=5.0)
    assert (waiting.what, waiting.since) == ("1 of 2 groups", 5.0)
    assert waiting.is_of(Wait(WaitKey.BATCH, "2 of 2 groups", 3))
    assert not waiting.is_of(Wait(WaitKey.BATCH, "1 of 2 groups", 4))
    assert not waiting.is_of(Wait(WaitKey.TRAINING, "1 of 2 groups", 3))

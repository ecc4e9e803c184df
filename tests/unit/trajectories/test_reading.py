"""What every reader of an entry finds wrong with it, and what goes on in place of a group that failed."""

from __future__ import annotations

import pytest

from services.trajectories.codec import decode_group, encode
from services.trajectories.entries import NO_NUMBER, Entry
from services.trajectories.failed_group import failed_entry, failed_group
from services.trajectories.outcomes import DropReason, GroupFailed
from services.trajectories.reading import POISON_DEATHS, read_group, read_task
from sspo_proto.trajectory_pb2 import Group, PromptTask, Sampling, Trajectory

JOB = "ftjob-1"


def task(number: int = 0, job: str = JOB) -> PromptTask:
    sampling = Sampling(group_size=1)
    return PromptTask(
        schema_version=1, job_id=job, group_number=number, prompt_token_ids=b"\1\0\0\0", sampling=sampling
    )


@pytest.mark.parametrize(
    ("entry", "reason", "code"),
    [
        (Entry("1-0", NO_NUMBER, 0, b"", problem="plain fields missing"), "malformed", "plain_fields"),
        (Entry("1-0", 0, 0, encode(task()), deaths=POISON_DEATHS), "poison", "deaths"),
        (Entry("1-0", 0, 0, b"\xff"), "malformed", "undecodable"),
        (Entry("1-0", 1, 0, encode(task())), "malformed", "another_group"),
        (Entry("1-0", 0, 0, encode(task(job="ftjob-2"))), "malformed", "another_group"),
    ],
)
def test_every_reader_finds_the_same_wrong_with_an_entry(entry: Entry, reason: str, code: str) -> None:
    with pytest.raises(GroupFailed) as caught:
        read_task(entry, JOB)
    assert (caught.value.reason, caught.value.code, caught.value.is_kept) == (reason, code, True)
    with pytest.raises(GroupFailed) as caught:
        read_group(entry, JOB)
    assert caught.value.reason == reason


def test_an_entry_is_read_up_to_the_last_death() -> None:
    assert read_task(Entry("1-0", 0, 0, encode(task()), deaths=POISON_DEATHS - 1), JOB) == task()


def test_a_failed_group_keeps_its_task_and_nothing_that_was_sampled() -> None:
    error = GroupFailed(DropReason.GRADER_FAILED, "other_error", "x" * 5000)
    group = Group(schema_version=1, task=task(), trajectories=[Trajectory(), Trajectory()])
    found = decode_group(encode(failed_group(group, error)))
    assert found.task == task() and not found.trajectories
    assert (found.failure.reason, found.failure.code) == ("grader_failed", "other_error")
    assert len(found.failure.detail) == 1000 and not error.is_kept
    assert failed_entry(JOB, Entry("1-0", NO_NUMBER, 0, b""), error) is None

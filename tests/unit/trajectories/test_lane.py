"""What a worker holds of its stream: from taking to hand-over, burial or return."""

from __future__ import annotations

import time

import pytest

from services.store.client import Client
from services.trajectories import streams
from services.trajectories.codec import MalformedMessage, decode_group, encode, ints
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import NO_NUMBER, PROMPTS, TRAJECTORIES, Entry
from services.trajectories.failed_group import failed_entry, failed_group
from services.trajectories.lane import Lane
from services.trajectories.outcomes import DropReason, GroupFailed
from services.trajectories.reading import POISON_DEATHS, read_group, read_task
from services.trajectories.stream_stats import stream_stats
from sspo_proto.trajectory_pb2 import Failure, Group, PromptTask, Sampling, Trajectory

JOB = "ftjob-1"


def lane(client: Client, consumer: str) -> Lane:
    return Lane(client, JOB, PROMPTS, TRAJECTORIES, consumer)


def issue(client: Client, count: int) -> None:
    streams.prepare(client, JOB)
    for number in range(count):
        assert streams.dispatch(client, JOB, number, b"task", 0)


def taken(found: Lane, count: int) -> list[Entry]:
    entries = [found.take() for _ in range(count)]
    return [entry for entry in entries if entry is not None]


def test_everything_held_goes_back_to_others_at_once(client: Client) -> None:
    issue(client, 3)
    first, second = lane(client, "a"), lane(client, "b")
    done, *held = taken(first, 3)
    assert first.hand_over(done, b"group", 0)
    assert first.give_back() == 2 and first.give_back() == 0
    second.take_over(60)
    assert [entry.number for entry in taken(second, 3)] == [entry.number for entry in held]


def test_what_is_taken_over_is_worked_on_first_and_once(client: Client) -> None:
    issue(client, 2)
    taken(lane(client, "a"), 1)
    streams.release_consumer(client, JOB, "a")
    other = lane(client, "b")
    other.take_over(60)
    assert [entry.number for entry in taken(other, 3)] == [0, 1]
    other.take_over(0.0)
    assert other.take() is None, "what it holds already is not begun again"


def test_what_there_is_no_room_for_goes_back(client: Client) -> None:
    issue(client, 3)
    taken(lane(client, "a"), 3)
    streams.release_consumer(client, JOB, "a")
    narrow, wide = lane(client, "b"), lane(client, "c")
    narrow.take_over(60, room=0)
    assert narrow.take() is None
    narrow.take_over(60, room=2)
    assert [entry.number for entry in taken(narrow, 3)] == [0, 1]
    wide.take_over(60)
    assert [entry.number for entry in taken(wide, 3)] == [2]


def test_what_was_given_back_is_not_begun(client: Client) -> None:
    issue(client, 1)
    taken(lane(client, "a"), 1)
    streams.release_consumer(client, JOB, "a")
    other = lane(client, "b")
    other.take_over(60)
    assert other.give_back() == 1 and other.take() is None


def test_leases_are_refreshed_while_entries_are_held(client: Client) -> None:
    issue(client, 2)
    holder, other = lane(client, "a"), lane(client, "b")
    entries = taken(holder, 2)
    assert holder.bury(entries[0], GroupFailed(DropReason.MALFORMED, "no_prompt", "empty"), b"failure")
    time.sleep(1.2)
    holder.refresh()
    other.take_over(1.0)
    assert other.take() is None
    [letter] = DeadLetters(client).list(JOB)[0]
    assert (letter.reason, letter.detail) == ("malformed", "no_prompt: empty")
    assert holder.give_back() == 1 and stream_stats(client, JOB)[TRAJECTORIES].entries == 1


def entry_of(message: Group | PromptTask, **changes: int | str) -> Entry:
    return Entry("1-0", 3, 0, encode(message), **changes)  # type: ignore[arg-type]


TASK = PromptTask(
    schema_version=1, job_id=JOB, group_number=3, prompt_token_ids=ints([1]), sampling=Sampling(group_size=1)
)
FAILED = Group(schema_version=1, task=TASK, failure=Failure(reason="grader_failed"))


def test_an_entry_is_read_if_it_is_this_jobs_group_of_its_number() -> None:
    assert read_task(entry_of(TASK), JOB) == TASK and read_group(entry_of(FAILED), JOB) == FAILED
    assert read_task(entry_of(TASK, deaths=POISON_DEATHS - 1), JOB) == TASK
    for read, message in ((read_task, TASK), (read_group, FAILED)):
        with pytest.raises(MalformedMessage, match="came as number 3"):
            read(entry_of(message), "ftjob-2")
        with pytest.raises(MalformedMessage, match="no job"):
            read(entry_of(message, problem="no job"), JOB)
        with pytest.raises(GroupFailed) as poison:
            read(entry_of(message, deaths=POISON_DEATHS), JOB)
        assert (poison.value.reason, poison.value.code, poison.value.is_kept) == (DropReason.POISON, "deaths", True)


def test_a_failure_names_its_group_and_carries_nothing_else() -> None:
    error = GroupFailed(DropReason.GRADER_FAILED, "timeout", "x" * 5000)
    assert str(error) == error.detail and not error.is_kept and GroupFailed(DropReason.MALFORMED, "", "").is_kept
    group = failed_group(Group(schema_version=1, task=TASK, trajectories=[Trajectory()]), error)
    assert decode_group(encode(group)) == group and not group.trajectories and group.task == TASK
    assert (group.failure.reason, group.failure.code, len(group.failure.detail)) == ("grader_failed", "timeout", 1000)
    alone = failed_entry(JOB, entry_of(TASK), error)
    assert alone is not None and (alone.task.job_id, alone.task.group_number) == (JOB, 3)
    assert read_group(entry_of(alone), JOB) == alone
    assert failed_entry(JOB, Entry("1-0", NO_NUMBER, 0, b""), error) is None

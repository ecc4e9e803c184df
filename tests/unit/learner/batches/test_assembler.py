"""The assembler: oldest first, one staleness gate, duplicates and failures settled with a reason."""

from __future__ import annotations

import random

import pytest

from services.learner.batches.assembler import Assembler, FinishedNumbers
from services.trajectories.codec import encode, floats, ints, mask
from services.trajectories.entries import Entry
from sspo_proto.trajectory_pb2 import Failure, Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan

JOB = "ftjob-1"


def group(number: int, step: int = 0, *, graded: bool = True, failure: str = "") -> bytes:
    task = PromptTask(job_id=JOB, group_number=number, prompt_token_ids=ints([1]), sampling=Sampling(group_size=1))
    trajectory = Trajectory(
        completion_token_ids=ints([5, 2]),
        behaviour_logprobs=floats([-0.1, -0.2]),
        loss_mask=mask([1, 1]),
        version_spans=[VersionSpan(version=step + 1, step=step, start=0, end=2)],
        reward=Reward(value=1.0) if graded else None,
    )
    message = Group(schema_version=1, task=task, trajectories=[trajectory])
    if failure:
        message = Group(schema_version=1, task=task, failure=Failure(reason=failure))
    return encode(message)


def entry(number: int, step: int = 0, payload: bytes | None = None, entry_id: str = "") -> Entry:
    return Entry(entry_id or f"{number + 1}-0", number, step, group(number, step) if payload is None else payload)


def test_a_batch_takes_the_oldest_groups_first() -> None:
    assembler = Assembler(JOB, batch_size=2, max_staleness=9)
    for number, step in ((3, 1), (7, 0), (5, 0)):
        assembler.feed(entry(number, step))
    batch = assembler.assemble(1)
    assert [scored.number for scored in batch.groups] == [5, 7]
    assert batch.entry_ids == ["6-0", "8-0"]
    assert assembler.assemble(1).groups == [] and len(assembler) == 1


@pytest.mark.parametrize(("step", "dropped"), [(2, {}), (3, {"stale": [0]})])
def test_staleness_is_counted_in_steps_and_gated_once(step: int, dropped: dict[str, list[int]]) -> None:
    assembler = Assembler(JOB, batch_size=1, max_staleness=2)
    assembler.feed(entry(0, 0))
    batch = assembler.assemble(step)
    assert batch.dropped == dropped
    assert [scored.number for scored in batch.groups] == ([] if dropped else [0])


def test_groups_that_tell_nothing_are_filtered_only_when_asked() -> None:
    def pair(number: int, rewards: tuple[float, float]) -> Entry:
        message = Group.FromString(group(number))
        message.task.sampling.group_size = 2
        message.trajectories.append(message.trajectories[0])
        for trajectory, reward in zip(message.trajectories, rewards, strict=True):
            trajectory.reward.value = reward
        return entry(number, payload=encode(message))

    for asked, dropped in ((False, {}), (True, {"filtered": [0]})):
        assembler = Assembler(JOB, batch_size=1, max_staleness=2, drop_uninformative=asked)
        assembler.feed(pair(0, (1.0, 1.0)))
        assembler.feed(pair(1, (1.0, 0.5)))
        batch = assembler.assemble(0)
        assert batch.dropped == dropped
        assert [scored.number for scored in batch.groups] == [1 if asked else 0]


def test_duplicates_of_a_number_are_settled_and_never_trained_twice() -> None:
    assembler = Assembler(JOB, batch_size=1, max_staleness=2)
    assembler.finish([4])
    assembler.feed(entry(4))
    assembler.feed(entry(0))
    assembler.feed(entry(0, entry_id="9-9"))
    batch = assembler.assemble(0)
    assert [scored.number for scored in batch.groups] == [0]
    assert sorted(batch.entry_ids) == ["1-0", "5-0", "9-9"]
    assembler.feed(entry(0, entry_id="10-0"))
    assert assembler.assemble(0).groups == []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff not a group", "malformed"),
        (group(8), "malformed"),  # says another number than its entry
        (group(0, failure="grader_failed"), "grader_failed"),
        (group(0, failure="poison"), "poison"),
        (group(0, failure="no such reason"), "malformed"),
        (group(0, graded=False), "grader_failed"),
    ],
)
def test_what_cannot_be_trained_is_dropped_with_its_reason(payload: bytes, reason: str) -> None:
    assembler = Assembler(JOB, batch_size=1, max_staleness=2)
    assembler.feed(entry(0, payload=payload))
    batch = assembler.assemble(0)
    assert batch.groups == [] and batch.dropped == {reason: [0]} and batch.entry_ids == ["1-0"]


def test_what_undone_weights_sampled_is_dropped_as_rolled_back() -> None:
    assembler = Assembler(JOB, batch_size=2, max_staleness=9)
    for number, step in ((0, 1), (1, 5), (2, 6), (3, 2)):  # the version of step s is s + 1
        assembler.feed(entry(number, step))
    assembler.undo([range(6, 8)])
    batch = assembler.assemble(2)
    assert batch.dropped == {"rolled_back": [1, 2]}
    assert [scored.number for scored in batch.groups] == [0, 3]


def test_finished_numbers_are_known_in_whatever_order_they_came() -> None:
    order = list(range(200))
    random.Random(3).shuffle(order)
    finished = FinishedNumbers()
    for number in order[:50]:
        finished.add(number)
    for count, number in enumerate(order[50:], 51):
        finished.add(number)
        finished.add(number)
        assert {known for known in range(210) if known in finished} == set(order[:count])
    assert not finished._above, "a job of any length keeps no more than what is out of order"

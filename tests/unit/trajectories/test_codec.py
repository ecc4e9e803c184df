"""What the codec refuses, on its way in and out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from services.trajectories import codec
from services.trajectories.codec import (
    MalformedMessage,
    OversizedMessage,
    check_identity,
    completion_tokens,
    decode_group,
    decode_task,
    encode,
    floats,
    ints,
    mask,
    oldest_step,
    read_floats,
    read_ints,
    read_mask,
)
from sspo_proto.trajectory_pb2 import Failure, Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan


def good() -> Group:
    task = PromptTask(
        schema_version=1, job_id="j", group_number=3, prompt_token_ids=ints([1]), sampling=Sampling(group_size=1)
    )
    trajectory = Trajectory(
        completion_token_ids=ints([5, 2]),
        behaviour_logprobs=floats([-0.1, -0.2]),
        loss_mask=mask([1, 1]),
        version_spans=[VersionSpan(version=1, step=0, start=0, end=2)],
        reward=Reward(value=1.0),
    )
    return Group(schema_version=1, task=task, trajectories=[trajectory])


def test_a_message_comes_back_as_it_was() -> None:
    assert decode_group(encode(good())) == good() and completion_tokens(good()) == 2
    assert decode_task(encode(good().task)) == good().task


def _first(group: Group) -> Trajectory:
    return group.trajectories[0]


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda group: setattr(group, "schema_version", 2), "schema version 2"),
        (lambda group: setattr(group, "schema_version", 0), "schema version 0"),
        (lambda group: group.trajectories.pop(), "0 trajectories"),
        (lambda group: setattr(_first(group), "completion_token_ids", ints([-1, 2])), "negative"),
        (lambda group: setattr(group.task, "prompt_token_ids", ints([-1])), "negative"),
        (lambda group: setattr(_first(group).reward, "value", float("nan")), "finite"),
        (lambda group: setattr(_first(group), "loss_mask", mask([1])), "1 mask entries"),
        (lambda group: setattr(_first(group), "behaviour_logprobs", b"123"), "whole number"),
    ],
)
def test_what_contradicts_itself_is_malformed(spoil: Callable[[Group], object], match: str) -> None:
    group = good()
    spoil(group)
    with pytest.raises(MalformedMessage, match=match):
        decode_group(encode(group))


def test_every_truncation_is_refused_or_leaves_a_whole_group() -> None:
    whole = encode(good())
    for length in range(len(whole)):
        try:
            left = decode_group(whole[:length])
        except MalformedMessage:
            continue
        assert left.trajectories == good().trajectories and left.task == good().task


def test_a_message_that_is_too_large_is_neither_written_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encode(good())
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", len(payload))
    assert decode_group(encode(good())) == good()
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", len(payload) - 1)
    with pytest.raises(OversizedMessage, match=f"{len(payload)} bytes"):
        encode(good())
    with pytest.raises(OversizedMessage):
        decode_group(payload)


@pytest.mark.parametrize(("job_id", "number"), [("k", 3), ("j", 4)])
def test_a_message_says_whose_it_is(job_id: str, number: int) -> None:
    check_identity(good().task, "j", 3)
    with pytest.raises(MalformedMessage, match="group_number 3 of job_id 'j'"):
        check_identity(good().task, job_id, number)


def test_turns_are_read_and_the_oldest_version_counts() -> None:
    group = good()
    _first(group).turn_ids = ints([0, 1])
    del _first(group).version_spans[:]
    _first(group).version_spans.extend(
        [VersionSpan(version=2, step=7, start=0, end=1), VersionSpan(version=3, step=5, start=1, end=2)]
    )
    assert decode_group(encode(group)) == group and oldest_step(group) == 5
    assert oldest_step(Group()) == 0


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda one: setattr(one, "turn_ids", ints([0])), "turn_ids"),
        (lambda one: setattr(one, "turn_ids", ints([0, 1, 2])), "turn_ids"),
        (lambda one: setattr(one, "behaviour_logprobs", floats([-0.1, float("-inf")])), "log-probs must be finite"),
        (lambda one: setattr(one, "behaviour_logprobs", floats([-0.1, float("nan")])), "log-probs must be finite"),
        (lambda one: setattr(one, "behaviour_logprobs", floats([-0.1, 0.001])), "not positive"),
        (lambda one: setattr(one, "behaviour_logprobs", floats([-0.1])), "2 tokens, 1 log-probs"),
        (lambda one: setattr(one.version_spans[0], "end", 1), "cover 1 of 2"),
        (lambda one: setattr(one.version_spans[0], "end", 0), "gap at token 0"),
        (lambda one: setattr(one.version_spans[0], "start", 1), "gap at token 0"),
        (lambda one: one.version_spans.add(version=1, start=3, end=4), "gap at token 2"),
        (lambda one: one.ClearField("version_spans"), "cover 0 of 2"),
        (lambda one: setattr(one, "completion_token_ids", b""), "empty completion"),
    ],
)
def test_a_completion_that_contradicts_itself_is_malformed(spoil: Callable[[Trajectory], object], match: str) -> None:
    group = good()
    spoil(_first(group))
    with pytest.raises(MalformedMessage, match=match):
        decode_group(encode(group))


@pytest.mark.parametrize("missing", ["job_id", "prompt_token_ids", "sampling"])
def test_a_task_that_cannot_be_sampled_is_malformed(missing: str) -> None:
    group = good()
    group.task.ClearField(missing)
    for decode, message in ((decode_task, group.task), (decode_group, group)):
        with pytest.raises(MalformedMessage, match="a task needs"):
            decode(encode(message))


def test_what_is_no_message_says_so_and_a_failure_needs_no_completions() -> None:
    with pytest.raises(MalformedMessage, match="not a Group"):
        decode_group(b"\xff\xff")
    failed = Group(schema_version=1, failure=Failure(reason="grader_error"))
    assert decode_group(encode(failed)) == failed and completion_tokens(failed) == 0


def test_rounding_may_leave_a_log_prob_just_above_zero() -> None:
    group = good()
    _first(group).behaviour_logprobs = floats([0.00005, 0.0])
    assert decode_group(encode(group)) == group


def test_arrays_are_written_alike_from_numbers_and_from_numpy() -> None:
    assert ints(np.array([1, -2], dtype=np.int64)) == ints([1, -2])
    assert floats(np.array([0.5, -2.0])) == floats([0.5, -2.0])
    assert mask(np.array([1, 0], dtype=np.int64)) == mask([1, 0])
    assert read_ints(ints([1, -2])).tolist() == [1, -2]
    assert read_floats(floats([0.5])).tolist() == [0.5]
    assert read_mask(mask([1, 0])).tolist() == [1, 0]

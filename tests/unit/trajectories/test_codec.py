"""What the codec refuses, on its way in and out."""

from __future__ import annotations

from collections.abc import Callable

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
)
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan


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

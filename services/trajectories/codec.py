"""Bytes on the wire and numpy arrays in memory.

Invariants: a newer schema version is refused, an older one is read; arrays have the lengths their neighbours imply.
Whoever decodes can trust what it got: everything malformed ends here, as `MalformedMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from sspo_proto.trajectory_pb2 import Group, PromptTask, Trajectory

SCHEMA_VERSION = 1

M = TypeVar("M", PromptTask, Group)


class MalformedMessage(ValueError):
    """A payload that is not a message of ours, is newer than us, or contradicts itself."""


def ints(values: Sequence[int] | NDArray[np.int32]) -> bytes:
    """Packed little-endian int32."""
    return np.asarray(values, dtype="<i4").tobytes()


def floats(values: Sequence[float] | NDArray[np.float32]) -> bytes:
    """Packed little-endian float32."""
    return np.asarray(values, dtype="<f4").tobytes()


def mask(values: Sequence[int] | NDArray[np.uint8]) -> bytes:
    """Packed uint8."""
    return np.asarray(values, dtype=np.uint8).tobytes()


def read_ints(data: bytes) -> NDArray[np.int32]:
    """Inverse of `ints`; a read-only view."""
    return np.frombuffer(_whole(data, 4), dtype="<i4")


def read_floats(data: bytes) -> NDArray[np.float32]:
    """Inverse of `floats`; a read-only view."""
    return np.frombuffer(_whole(data, 4), dtype="<f4")


def read_mask(data: bytes) -> NDArray[np.uint8]:
    """Inverse of `mask`; a read-only view."""
    return np.frombuffer(data, dtype=np.uint8)


def encode(message: Message) -> bytes:
    """Deterministic bytes of a message."""
    return message.SerializeToString(deterministic=True)


def decode_task(payload: bytes) -> PromptTask:
    """A PromptTask whose fields are consistent, or MalformedMessage."""
    task = _parse(PromptTask(), payload)
    _check_task(task)
    return task


def decode_group(payload: bytes) -> Group:
    """A Group whose trajectories are complete and consistent (or which carries a failure), or MalformedMessage."""
    group = _parse(Group(), payload)
    if group.HasField("failure"):
        return group
    _check_task(group.task)
    if len(group.trajectories) != group.task.sampling.group_size:
        raise MalformedMessage(f"{len(group.trajectories)} trajectories, expected {group.task.sampling.group_size}")
    for trajectory in group.trajectories:
        _check_trajectory(trajectory)
    return group


def oldest_step(group: Group) -> int:
    """Step of the oldest token's version, over all trajectories; 0 for a group without any."""
    return min((span.step for t in group.trajectories for span in t.version_spans), default=0)


def _parse(message: M, payload: bytes) -> M:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise MalformedMessage(f"not a {type(message).__name__}: {error}") from error
    if not 1 <= message.schema_version <= SCHEMA_VERSION:
        raise MalformedMessage(f"schema version {message.schema_version}, this reader knows 1..{SCHEMA_VERSION}")
    return message


def _whole(data: bytes, width: int) -> bytes:
    if len(data) % width:
        raise MalformedMessage(f"{len(data)} bytes are not a whole number of {width}-byte values")
    return data


def _check_task(task: PromptTask) -> None:
    if not task.job_id or not task.prompt_token_ids or task.sampling.group_size < 1:
        raise MalformedMessage("a task needs job_id, prompt_token_ids and sampling.group_size")
    _whole(task.prompt_token_ids, 4)


def _check_trajectory(trajectory: Trajectory) -> None:
    length = len(read_ints(trajectory.completion_token_ids))
    logprobs = read_floats(trajectory.behaviour_logprobs)
    if length == 0:
        raise MalformedMessage("an empty completion")
    if len(logprobs) != length or len(trajectory.loss_mask) != length:
        raise MalformedMessage(f"{length} tokens, {len(logprobs)} log-probs, {len(trajectory.loss_mask)} mask entries")
    if trajectory.turn_ids and len(read_ints(trajectory.turn_ids)) != length:
        raise MalformedMessage("turn_ids and completion_token_ids differ in length")
    if not np.isfinite(logprobs).all() or (logprobs > 1e-4).any():
        raise MalformedMessage("behaviour log-probs must be finite and not positive")
    end = 0
    for span in trajectory.version_spans:
        if span.start != end or span.end <= span.start:
            raise MalformedMessage(f"version spans leave a gap at token {end}")
        end = span.end
    if end != length:
        raise MalformedMessage(f"version spans cover {end} of {length} tokens")

"""Bytes on the wire and numpy arrays in memory.

Invariants: a newer schema version is refused, an older one is read; arrays have the lengths their neighbours imply. A
decoded message needs no further check: anything malformed raises `MalformedMessage` here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from services.trajectories.outcomes import DropReason, GroupFailed
from sspo_proto.trajectory_pb2 import Group, PromptTask, Trajectory

SCHEMA_VERSION = 1
MAX_MESSAGE_BYTES = 64 * 2**20
"""No message is larger, neither written nor read."""

MAX_LOGPROB = 1e-4
"""Rounding may leave a certain token's log-prob a little above 0."""

M = TypeVar("M", PromptTask, Group)


class MalformedMessage(GroupFailed):
    """A payload that is not a message of ours, is newer than us, or contradicts itself."""

    def __init__(self, detail: str, code: str = "undecodable") -> None:
        super().__init__(DropReason.MALFORMED, code, detail)


class OversizedMessage(MalformedMessage):
    """A message above MAX_MESSAGE_BYTES."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="oversized")


def ints(values: Sequence[int] | NDArray[np.int32]) -> bytes:
    """Packed little-endian int32."""
    if isinstance(values, np.ndarray):
        return values.astype("<i4").tobytes()
    return struct.pack(f"<{len(values)}i", *values)  # more than twice as fast as numpy from Python's numbers


def floats(values: Sequence[float] | NDArray[np.float32]) -> bytes:
    """Packed little-endian float32."""
    if isinstance(values, np.ndarray):
        return values.astype("<f4").tobytes()
    return struct.pack(f"<{len(values)}f", *values)


def mask(values: Sequence[int] | NDArray[np.uint8]) -> bytes:
    """Packed uint8."""
    return values.astype(np.uint8).tobytes() if isinstance(values, np.ndarray) else bytes(values)


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
    """Deterministic bytes of a message. Raises OversizedMessage."""
    return check_size(message.SerializeToString(deterministic=True))


def check_size(payload: bytes) -> bytes:
    """The payload itself. Raises OversizedMessage."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise OversizedMessage(f"{len(payload)} bytes, a message has at most {MAX_MESSAGE_BYTES}")
    return payload


def check_identity(task: PromptTask, job_id: str, number: int) -> None:
    """Raises MalformedMessage unless the task is this job's group `number`, as the entry's plain fields say."""
    if (task.job_id, task.group_number) != (job_id, number):
        raise MalformedMessage(
            f"group_number {task.group_number} of job_id {task.job_id!r} came as number {number}", code="another_group"
        )


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
    _check_values(group)
    return group


def oldest_step(group: Group) -> int:
    """Step of the oldest token's version, over all trajectories; 0 for a group without any."""
    return min((span.step for t in group.trajectories for span in t.version_spans), default=0)


def completion_tokens(group: Group) -> int:
    """Tokens sampled for a group."""
    return sum(len(trajectory.completion_token_ids) // 4 for trajectory in group.trajectories)


def _parse(message: M, payload: bytes) -> M:
    check_size(payload)
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
    if (read_ints(task.prompt_token_ids) < 0).any():
        raise MalformedMessage("token ids must not be negative")


def _check_trajectory(trajectory: Trajectory) -> None:
    """All but the values, which `_check_values` looks at for the whole group at once: that is several times faster."""
    length = len(_whole(trajectory.completion_token_ids, 4)) // 4
    logprobs = len(_whole(trajectory.behaviour_logprobs, 4)) // 4
    if length == 0:
        raise MalformedMessage("an empty completion")
    if logprobs != length or len(trajectory.loss_mask) != length:
        raise MalformedMessage(f"{length} tokens, {logprobs} log-probs, {len(trajectory.loss_mask)} mask entries")
    if trajectory.turn_ids and len(_whole(trajectory.turn_ids, 4)) != 4 * length:
        raise MalformedMessage("turn_ids and completion_token_ids differ in length")
    if trajectory.HasField("reward") and not math.isfinite(trajectory.reward.value):
        raise MalformedMessage("a reward must be finite")
    end = 0
    for span in trajectory.version_spans:
        if span.start != end or span.end <= span.start:
            raise MalformedMessage(f"version spans leave a gap at token {end}")
        end = span.end
    if end != length:
        raise MalformedMessage(f"version spans cover {end} of {length} tokens")


def _check_values(group: Group) -> None:
    if read_ints(b"".join([t.completion_token_ids for t in group.trajectories])).min() < 0:
        raise MalformedMessage("token ids must not be negative")
    logprobs = read_floats(b"".join([t.behaviour_logprobs for t in group.trajectories]))
    if not (logprobs.min() > -math.inf and logprobs.max() <= MAX_LOGPROB):  # NaN is neither
        raise MalformedMessage("behaviour log-probs must be finite and not positive")

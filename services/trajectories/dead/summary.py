"""The summary of a broken payload: the fields that protobuf still finds, and the first bytes.

Nothing of a payload is executed or trusted: numbers are counted, texts are shortened, and what can't be parsed is hex.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from services.job.strict_json import JsonObject
from services.trajectories.entries import EVAL_PROMPTS, PROMPTS
from sspo_proto.trajectory_pb2 import Group, PromptTask, Trajectory

FIRST_BYTES = 64
MAX_TEXT_CHARACTERS = 1000
MAX_TRAJECTORIES = 16


def summarise(payload: bytes, found_in: str) -> JsonObject:
    """`first_bytes` in hex, and `message`: the fields of what its stream carries; None where it is no such message."""
    return {"first_bytes": payload[:FIRST_BYTES].hex(), "message": _message(payload, found_in)}


def _message(payload: bytes, found_in: str) -> JsonObject | None:
    message = PromptTask() if found_in in (PROMPTS, EVAL_PROMPTS) else Group()
    try:
        message.ParseFromString(payload)
    except DecodeError:
        return None
    if not message.ListFields():
        return None
    return _task(message) if isinstance(message, PromptTask) else _group(message)


def _task(task: PromptTask) -> JsonObject:
    sampling = task.sampling
    return {
        "schema_version": task.schema_version,
        "job_id": _shortened(task.job_id),
        "group_number": task.group_number,
        "dataset_row": task.dataset_row,
        "prompt_tokens": len(task.prompt_token_ids) // 4,
        "item_json": _shortened(task.item_json),
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "group_size": sampling.group_size,
        "issued_step": task.issued_step,
    }


def _group(group: Group) -> JsonObject:
    failure = group.failure
    return {
        "schema_version": group.schema_version,
        "task": _task(group.task),
        "trajectories": [_trajectory(trajectory) for trajectory in group.trajectories[:MAX_TRAJECTORIES]],
        "trajectories_total": len(group.trajectories),
        "failure": {name: _shortened(getattr(failure, name)) for name in ("reason", "code", "detail")}
        if group.HasField("failure")
        else None,
        "rollout_worker": _shortened(group.rollout_worker),
        "reward_worker": _shortened(group.reward_worker),
    }


def _trajectory(trajectory: Trajectory) -> JsonObject:
    return {
        "completion_tokens": len(trajectory.completion_token_ids) // 4,
        "logprobs": len(trajectory.behaviour_logprobs) // 4,
        "versions": [span.version for span in trajectory.version_spans[:MAX_TRAJECTORIES]],
        "stop_reason": _shortened(trajectory.stop_reason),
        "reward": trajectory.reward.value if trajectory.HasField("reward") else None,
    }


def _shortened(text: str) -> str:
    return text[:MAX_TEXT_CHARACTERS]

"""Turns tasks into requests and samples into groups: the messages that a rollout worker reads and writes.

Invariant: a task that can't be sampled becomes a group with a typed failure, so its number is still accounted for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from services.job.spec import JobSpec
from services.rollout.engine import SampledCompletion, SampledGroup, SampleRequest
from services.trajectories.codec import SCHEMA_VERSION, MalformedMessage, encode, floats, ints, mask, read_ints
from services.trajectories.entries import Entry
from services.trajectories.failed_group import failed_entry
from services.trajectories.outcomes import GroupFailed
from services.trajectories.reading import read_task
from sspo_proto.trajectory_pb2 import Group, PromptTask, Trajectory, VersionSpan


def sampling_task(entry: Entry, spec: JobSpec, *, evaluation: bool) -> PromptTask:
    """The task of an entry, within the job's limits; only an evaluation may be greedy. Raises GroupFailed."""
    task = read_task(entry, spec.job_id)
    limits = {
        "prompt_token_ids": len(read_ints(task.prompt_token_ids)) <= spec.rollout.max_prompt_tokens,
        "sampling.group_size": task.sampling.group_size == (1 if evaluation else spec.rollout.group_size),
        "sampling.max_tokens": 1 <= task.sampling.max_tokens <= spec.rollout.max_tokens,
        "sampling.temperature": task.sampling.temperature > 0 or (evaluation and task.sampling.temperature == 0),
    }
    wrong = [name for name, holds in limits.items() if not holds]
    if wrong:
        raise MalformedMessage(f"{', '.join(wrong)}: not what this job allows", code="out_of_bounds")
    return task


def request_of(task: PromptTask, request_id: str, *, background: bool) -> SampleRequest:
    """The engine's request for a task."""
    sampling = task.sampling
    return SampleRequest(
        request_id=request_id,
        prompt_token_ids=tuple(read_ints(task.prompt_token_ids).tolist()),
        group_size=sampling.group_size,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        stop_token_ids=tuple(sampling.stop_token_ids),
        background=background,
    )


def sampled_group(task: PromptTask, sampled: SampledGroup, steps: Mapping[int, int], worker_id: str) -> Group:
    """The group of a task; `steps` maps every version in its spans to its step."""
    return Group(
        schema_version=SCHEMA_VERSION,
        task=task,
        trajectories=[_trajectory(completion, steps) for completion in sampled],
        rollout_worker=worker_id,
        sampled_at=time.time(),
    )


def failure_payload(job_id: str, entry: Entry, error: GroupFailed, worker_id: str) -> bytes:
    """The message in place of a group that can't be sampled; b"" for an entry that names no number."""
    group = failed_entry(job_id, entry, error)
    if group is None:
        return b""
    group.rollout_worker = worker_id
    group.sampled_at = time.time()
    return encode(group)


def _trajectory(completion: SampledCompletion, steps: Mapping[int, int]) -> Trajectory:
    return Trajectory(
        completion_token_ids=ints(completion.token_ids),
        behaviour_logprobs=floats(completion.logprobs),
        loss_mask=mask([1] * len(completion.token_ids)),
        version_spans=[
            VersionSpan(version=span.version, step=steps[span.version], start=span.start, end=span.end)
            for span in completion.spans
        ],
        stop_reason=completion.stop_reason,
    )

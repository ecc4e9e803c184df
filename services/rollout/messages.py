"""Tasks to requests, samples to groups: the messages a rollout worker reads and writes.

Invariant: whatever can't be sampled becomes a group with a typed failure, so that its number is still accounted for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from services.job.spec import JobSpec
from services.rollout.engine import SampledCompletion, SampledGroup, SampleRequest
from services.trajectories.codec import (
    SCHEMA_VERSION,
    MalformedMessage,
    OversizedMessage,
    decode_task,
    encode,
    floats,
    ints,
    mask,
    read_ints,
)
from services.trajectories.entries import NO_NUMBER, Entry
from services.trajectories.letters import MAX_DETAIL_CHARACTERS
from services.trajectories.outcomes import DropReason
from services.trajectories.stage import POISON_DEATHS
from sspo_proto.trajectory_pb2 import Failure, Group, PromptTask, Trajectory, VersionSpan


class Unsampleable(Exception):
    """This group can't be sampled by any worker. `reason` is a drop reason, `code` says more precisely why."""

    def __init__(self, reason: DropReason, code: str, detail: str) -> None:
        super().__init__(f"{reason}: {code}: {detail}")
        self.reason = reason
        self.code = code
        self.detail = detail


def read_task(entry: Entry, spec: JobSpec, *, evaluation: bool) -> PromptTask:
    """The task of an entry, within the job's limits; only an evaluation may be greedy. Raises Unsampleable."""
    if entry.problem:
        raise Unsampleable(DropReason.MALFORMED, "plain_fields", entry.problem)
    if entry.deaths >= POISON_DEATHS:
        raise Unsampleable(DropReason.POISON, "deaths", f"{entry.deaths} workers died or hung holding it")
    try:
        task = decode_task(entry.payload)
    except MalformedMessage as error:
        raise Unsampleable(DropReason.MALFORMED, "undecodable", str(error)) from error
    prompt_tokens = len(read_ints(task.prompt_token_ids))
    limits = {
        "job_id": task.job_id == spec.job_id,
        "group_number": task.group_number == entry.number,
        "prompt_token_ids": prompt_tokens <= spec.rollout.max_prompt_tokens,
        "sampling.group_size": task.sampling.group_size == (1 if evaluation else spec.rollout.group_size),
        "sampling.max_tokens": 1 <= task.sampling.max_tokens <= spec.rollout.max_tokens,
        "sampling.temperature": task.sampling.temperature > 0 or (evaluation and task.sampling.temperature == 0),
    }
    wrong = [name for name, holds in limits.items() if not holds]
    if wrong:
        raise Unsampleable(DropReason.MALFORMED, "out_of_bounds", f"{', '.join(wrong)}: not what this job allows")
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


def group_payload(group: Group) -> bytes:
    """A group's bytes. Raises Unsampleable when they are more than a message may have."""
    try:
        return encode(group)
    except OversizedMessage as error:
        raise Unsampleable(DropReason.MALFORMED, "oversized", str(error)) from error


def failure_payload(job_id: str, entry: Entry, failure: Unsampleable, worker_id: str) -> bytes:
    """A group without trajectories: it names job and number, which the entry has even if its payload is broken.

    b"" for an entry that names no number: there is nothing to account for then.
    """
    if entry.number == NO_NUMBER:
        return b""
    group = Group(
        schema_version=SCHEMA_VERSION,
        task=PromptTask(schema_version=SCHEMA_VERSION, job_id=job_id, group_number=entry.number),
        failure=Failure(reason=failure.reason, code=failure.code, detail=failure.detail[:MAX_DETAIL_CHARACTERS]),
        rollout_worker=worker_id,
        sampled_at=time.time(),
    )
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

"""Reads the message that an entry carries. Every worker that takes or reads an entry makes this one check.

Invariant: what is returned is a consistent message of this job and of the entry's number.
"""

from __future__ import annotations

from services.trajectories.codec import MalformedMessage, check_identity, decode_group, decode_task
from services.trajectories.entries import Entry
from services.trajectories.outcomes import DropReason, GroupFailed
from sspo_proto.trajectory_pb2 import Group, PromptTask

POISON_DEATHS = 5
"""A group held at this many deaths is not tried again."""


def read_task(entry: Entry, job_id: str) -> PromptTask:
    """The task of an entry of `prompts`. Raises MalformedMessage, and GroupFailed for a group that is poison."""
    _check_entry(entry)
    task = decode_task(entry.payload)
    check_identity(task, job_id, entry.number)
    return task


def read_group(entry: Entry, job_id: str) -> Group:
    """The group of an entry of a later stream; it may carry a failure. Raises as `read_task` does."""
    _check_entry(entry)
    group = decode_group(entry.payload)
    check_identity(group.task, job_id, entry.number)
    return group


def _check_entry(entry: Entry) -> None:
    if entry.problem:
        raise MalformedMessage(entry.problem, code="plain_fields")
    if entry.deaths >= POISON_DEATHS:
        raise GroupFailed(DropReason.POISON, "deaths", f"{entry.deaths} workers died or hung holding it")

"""The message in place of a group that failed. Rollout and reward workers write the same one.

Invariants: a failed group carries no trajectories and no reward; it names job and number even if nothing else of it
could be read.
"""

from __future__ import annotations

from services.trajectories.codec import SCHEMA_VERSION
from services.trajectories.dead.form import MAX_DETAIL_CHARACTERS
from services.trajectories.entries import NO_NUMBER, Entry
from services.trajectories.outcomes import GroupFailed
from sspo_proto.trajectory_pb2 import Failure, Group, PromptTask


def failed_entry(job_id: str, entry: Entry, error: GroupFailed) -> Group | None:
    """The failure of an entry of which only the number counts; None without one: there is nothing to account for."""
    if entry.number == NO_NUMBER:
        return None
    task = PromptTask(schema_version=SCHEMA_VERSION, job_id=job_id, group_number=entry.number)
    return failed_group(Group(schema_version=SCHEMA_VERSION, task=task), error)


def failed_group(group: Group, error: GroupFailed) -> Group:
    """The same group, with the failure in place of its trajectories."""
    del group.trajectories[:]
    detail = error.detail[:MAX_DETAIL_CHARACTERS]
    group.failure.CopyFrom(Failure(reason=error.reason, code=error.code, detail=detail))
    return group

"""The job life cycle as data, shared by the API (which asks) and the controller (which does).

    validating_files → queued → running → succeeded            paused → queued (resume)
    running → pausing → paused      queued → paused            failed → queued (resume, from the last checkpoint)
    validating_files | queued | running | pausing → failed     any state that is not final → cancelled

No I/O: `jobs.Jobs` applies the table in one Lua call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.store.job.waits import Wait, WaitKey


class Status(StrEnum):
    """The states of a job."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = Status

TRANSITIONS: dict[Status, frozenset[Status]] = {
    _S.VALIDATING_FILES: frozenset({_S.QUEUED, _S.FAILED, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.PAUSED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.PAUSING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSING: frozenset({_S.PAUSED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.FAILED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.CANCELLED: frozenset(),
}

FINAL: frozenset[Status] = frozenset(status for status, onward in TRANSITIONS.items() if not onward)

ENDED: frozenset[Status] = FINAL | {_S.FAILED}
"""Nothing runs and `finished_at` is set; a failed job can still be resumed."""

WAITS_FOR: dict[Status, Wait | None] = {
    _S.VALIDATING_FILES: Wait(WaitKey.VALIDATION, "validation of the files"),
    _S.QUEUED: Wait(WaitKey.CONTROLLER, "the controller"),
    _S.RUNNING: Wait(WaitKey.FIRST_STEP, "the first step"),
    _S.PAUSING: Wait(WaitKey.DRAIN, "the workers to drain"),
    _S.PAUSED: Wait(WaitKey.RESUME, "a resume"),
    _S.FAILED: Wait(WaitKey.RESUME, "a resume"),
    _S.SUCCEEDED: None,
    _S.CANCELLED: None,
}
"""The wait of a job right after it entered a state; the controller replaces it at its next look."""


@dataclass(frozen=True)
class Action:
    """A wish of a person. Its target depends on the state of the job.

    In the states `holds` the wish is already fulfilled, so a repeat is no error.
    """

    name: str
    moves: Mapping[Status, Status]
    holds: frozenset[Status]


PAUSE = Action("pause", {_S.QUEUED: _S.PAUSED, _S.RUNNING: _S.PAUSING}, frozenset({_S.PAUSING, _S.PAUSED}))
RESUME = Action("resume", {_S.PAUSED: _S.QUEUED, _S.FAILED: _S.QUEUED}, frozenset({_S.QUEUED, _S.RUNNING}))
CANCEL = Action(
    "cancel",
    {status: _S.CANCELLED for status in Status if _S.CANCELLED in TRANSITIONS[status]},
    frozenset({_S.CANCELLED}),
)


def reach(to: Status) -> Action:
    """The action that enters `to` from every state that allows it."""
    return Action(to.value, {status: to for status in Status if to in TRANSITIONS[status]}, frozenset({to}))


class IllegalTransition(Exception):
    """A transition that the table does not have."""

    def __init__(self, job_id: str, current: Status, to: str) -> None:
        super().__init__(f"job {job_id} is {current}: {to} is not possible")
        self.job_id = job_id
        self.current = current
        self.to = to

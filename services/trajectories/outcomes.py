"""How a group ends: trained, or dropped for one of a closed set of reasons; and the error of a learner that may no
longer say so."""

from __future__ import annotations

from enum import StrEnum

TRAINED = "trained"
"""The outcome of a number that was trained; every other outcome is a `DropReason`."""


class DropReason(StrEnum):
    """Why a group was not trained: a closed set."""

    GRADER_FAILED = "grader_failed"
    STALE = "stale"
    FILTERED = "filtered"
    MALFORMED = "malformed"
    POISON = "poison"
    ROLLED_BACK = "rolled_back"
    JOB_END = "job_end"


class Fenced(Exception):
    """Another learner has taken over; this one must end itself."""


class GroupFailed(Exception):
    """A group that no worker can sample or grade: it goes on as a typed failure, so that its number is accounted for.

    `reason` is why it will be dropped, `code` says more precisely why, `detail` is for people.
    """

    def __init__(self, reason: DropReason, code: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.code = code
        self.detail = detail

    @property
    def is_kept(self) -> bool:
        """Whether a copy of what came is kept for people."""
        return self.reason in (DropReason.MALFORMED, DropReason.POISON)

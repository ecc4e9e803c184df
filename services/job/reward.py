"""`x_sspo.reward`: how completions are graded. The grader says what is graded, and against what (`graders`)."""

from __future__ import annotations

from pydantic import Field

from services.job.base import StrictModel


class RewardSpec(StrictModel):
    """How completions are graded."""

    workers: int = Field(default=1, ge=0, le=256)
    """Reward workers that the job starts with. Raise it where groups wait in `trajectories`; `sspo job scale` changes
    the number while the job runs. 0: none until then."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=3600)
    """Seconds that one grader call may take; then its process is killed, and its group is dropped as `grader_failed`.
    Raise it for slow graders."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Tries of one grader call before its group is dropped as `grader_failed`; only what may pass by itself, such as a
    crashed process, is tried again. Raise it where the machine is short of memory."""

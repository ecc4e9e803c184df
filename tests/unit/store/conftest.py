"""Job records for the store's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.job.spec import JobSpec, LearnerSpec, RewardSpec, RolloutSpec
from services.store.job.record import JobRecord

MakeRecord = Callable[..., JobRecord]


@pytest.fixture
def make_record() -> MakeRecord:
    """`make_record("ftjob-1", created_at=7, metadata={...}, status=...)`."""

    def make(job_id: str = "ftjob-1", metadata: dict[str, str] | None = None, **fields: Any) -> JobRecord:
        spec = JobSpec(
            job_id=job_id,
            model="tiny",
            training_file="file-1",
            seed=1,
            grader={"type": "string_check"},
            objective={"name": "sspo"},
            rollout=RolloutSpec(),
            learner=LearnerSpec(),
            reward=RewardSpec(),
        )
        request = {"model": "tiny", "training_file": "file-1", "metadata": metadata}
        values = {"created_at": 100, "rollout_workers": 1, "reward_workers": 1, **fields}
        return JobRecord(id=job_id, request=request, spec=spec, **values)

    return make

"""What is known wrong with a job before anything of it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.controller.validation import InvalidGrader, validate_files
from services.disk.layout import Layout
from tests.support.tiny import job_spec

REGEX = {"type": "regex_match", "name": "g", "input": "{{ sample.output_text }}"}


@pytest.mark.parametrize("pattern", ["(", "(?i)" + "[\x01-\U0010fffe]" * 800], ids=["wrong", "endless"])
def test_a_pattern_that_does_not_compile_in_time_fails_the_job(tmp_path: Path, pattern: str) -> None:
    spec = job_spec()
    changes: dict[str, Any] = {
        "grader": {**REGEX, "pattern": pattern},
        "reward": spec.reward.model_copy(update={"timeout_seconds": 1.0}),
    }
    with pytest.raises(InvalidGrader) as refused:
        validate_files(spec.model_copy(update=changes), Layout(tmp_path))
    assert refused.value.param == "method.reinforcement.grader.pattern" and refused.value.code == "invalid_grader"

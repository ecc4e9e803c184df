"""What a learner left on disk to be looked at: its gate's curve, and sampled groups."""

from __future__ import annotations

import json
from typing import Any

from services.api.dependencies import Service
from services.files import whole_lines


def gate_of(service: Service, job_id: str) -> dict[str, Any] | None:
    """The curve of a job's gate; None before a learner wrote it."""
    try:
        curve: dict[str, Any] = json.loads(service.settings.layout.job(job_id).gate.read_bytes())
    except FileNotFoundError:
        return None
    return curve


def samples_of(service: Service, job_id: str) -> list[dict[str, Any]]:
    """The groups that are kept, in the order in which they were trained."""
    return [json.loads(line) for line in whole_lines(service.settings.layout.job(job_id).samples)]

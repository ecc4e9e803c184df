"""What a learner left on disk to be looked at: its gate's curve, and sampled groups."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from services.api.dependencies import Service
from services.disk.files import whole_lines


def gate_of(service: Service, job_id: str) -> dict[str, Any] | None:
    """The curve of a job's gate; None before a learner wrote it."""
    try:
        curve: dict[str, Any] = json.loads(service.settings.layout.job(job_id).gate.read_bytes())
    except FileNotFoundError:
        return None
    return curve


def samples_of(service: Service, job_id: str, most: int) -> list[dict[str, Any]]:
    """The newest groups that are kept, up to `most`, in the order in which they were trained."""
    lines = deque(whole_lines(service.settings.layout.job(job_id).samples), maxlen=most)
    return [json.loads(line) for line in lines]

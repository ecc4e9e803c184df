"""Things of a learner to look at besides figures: its gate's curve, and sampled groups.

Files of the job's folder: `gate.json` is written once, the newest groups are in `samples.jsonl`, one a line.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from services.disk.files import append_line, whole_lines, write_atomic
from services.disk.layout import JobFolder
from services.records.samples import GateCurve, SampledGroup

KEPT = 64
"""Groups of a job; up to twice as many until the file is written anew."""


def write_gate(folder: JobFolder, curve: GateCurve) -> None:
    """Keep the curve of a job's gate."""
    write_atomic(folder.gate, curve.to_json().encode())


def gate_of(folder: JobFolder) -> GateCurve | None:
    """The curve of a job's gate; None before a learner wrote it."""
    try:
        return GateCurve.from_json(folder.gate.read_bytes())
    except FileNotFoundError:
        return None


def samples_of(folder: JobFolder, most: int) -> list[SampledGroup]:
    """The newest groups that are kept, up to `most`, in the order in which they were trained."""
    lines = deque(whole_lines(folder.samples), maxlen=most)
    return [SampledGroup.from_json(line) for line in lines]


class SampleFile:
    """The file of sampled groups, for its one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = sum(1 for _ in whole_lines(path))

    def add(self, sample: SampledGroup) -> None:
        """Append a group, and now and then forget the oldest."""
        append_line(self._path, sample.to_json())
        self._lines += 1
        if self._lines >= 2 * KEPT:
            newest = list(whole_lines(self._path))[-KEPT:]
            write_atomic(self._path, "".join(newest).encode())
            self._lines = len(newest)

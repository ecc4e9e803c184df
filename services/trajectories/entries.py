"""The names of the streams, and an entry of a stream as its readers see it.

Invariant: reading an entry never raises. If its plain fields are incomplete, `problem` says so. The reader then buries
the message; it does not end the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PROMPTS, TRAJECTORIES, SCORED, DEAD = "prompts", "trajectories", "scored", "dead"
EVAL_PROMPTS, EVAL_TRAJECTORIES, EVAL_SCORED = "eval_prompts", "eval_trajectories", "eval_scored"
TRAINING_STREAMS = (PROMPTS, TRAJECTORIES, SCORED)
EVALUATION_STREAMS = (EVAL_PROMPTS, EVAL_TRAJECTORIES, EVAL_SCORED)
ALL_STREAMS = (*TRAINING_STREAMS, DEAD, *EVALUATION_STREAMS)

CONSUMERS = "workers"
"""Name of the one consumer group of every stream that has one."""
NO_NUMBER = -1
"""The number of an entry that names none."""
MAX_NUMBER = 2**32 - 1
"""The bitmap of finished numbers has no place beyond."""


@dataclass(frozen=True)
class Entry:
    """One group in a stream."""

    id: str
    number: int
    """NO_NUMBER when the entry names none."""
    step: int
    """Step of its oldest token's version; of its issue in `prompts`."""
    payload: bytes
    deaths: int = 0
    """Consumers that died or hung holding this number."""
    tokens: int = 0
    """Completion tokens sampled for it; 0 in `prompts`."""
    problem: str = ""
    """The fault of the plain fields; it makes the entry malformed, even with a good payload. "" if there is none."""


def read_entry(job_id: str, entry_id: bytes | str, fields: Mapping[bytes, bytes], deaths: int = 0) -> Entry:
    """An entry of a stream of this job; never raises."""
    name = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    number, step = _count(fields.get(b"number")), _count(fields.get(b"step"))
    wrong = [
        field
        for field, holds in {
            "job": fields.get(b"job") == job_id.encode(),
            "number": number is not None,
            "step": step is not None,
            "payload": b"payload" in fields,
        }.items()
        if not holds
    ]
    return Entry(
        id=name,
        number=NO_NUMBER if number is None else number,
        step=step or 0,
        payload=fields.get(b"payload", b""),
        deaths=deaths,
        tokens=_count(fields.get(b"tokens")) or 0,
        problem=f"plain fields missing or wrong: {', '.join(wrong)}" if wrong else "",
    )


def _count(value: bytes | None) -> int | None:
    """A number written as we write them, within the bitmap; None for everything else."""
    if value is None or not value.isdigit() or len(value) > 10:
        return None
    number = int(value)
    return number if number <= MAX_NUMBER and str(number).encode() == value else None

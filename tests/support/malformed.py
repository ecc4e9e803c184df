"""Stream entries in which something is wrong, made from a message in which nothing is."""

from __future__ import annotations

from typing import Any

from services.store import keys
from services.store.client import Client
from services.trajectories.entries import Entry
from services.trajectories.stream_stats import pairs
from sspo_proto.trajectory_pb2 import Group, PromptTask

MOST_BYTES = 4096
"""What the tests set the size of a message to."""

BROKEN = (
    "no protobuf",
    "empty",
    "truncated",
    "oversized",
    "newer schema",
    "another job inside",
    "another number inside",
    "another job outside",
    "no step",
    "no payload",
)
"""The number is known and was issued: it ends as malformed."""
STRANGERS = ("no number", "a word as number", "a negative number", "a huge number", "no fields of ours", "never issued")
"""No number of ours can be meant: nothing ends."""
CASES = (*BROKEN, *STRANGERS)


def fields_of(message: PromptTask | Group, case: str, job_id: str, number: int) -> dict[Any, Any]:
    """The fields of an entry whose one fault is `case`; `message` is group `number`'s and is changed."""
    task = message if isinstance(message, PromptTask) else message.task
    if case == "newer schema":
        message.schema_version = 2
    elif case == "another job inside":
        task.job_id = "ftjob-other"
    elif case == "another number inside":
        task.group_number = number + 1
    elif case == "never issued":
        task.group_number = number = 1000
    payload = message.SerializeToString(deterministic=True)
    broken = {
        "no protobuf": b"\xff\xff\xff",
        "empty": b"",
        "truncated": payload[: len(payload) // 2],
        "oversized": payload + b"\0" * MOST_BYTES,
    }
    fields: dict[Any, Any] = {"job": job_id, "number": number, "step": 0, "payload": broken.get(case, payload)}
    changes: dict[str, dict[str, Any]] = {
        "another job outside": {"job": "ftjob-other"},
        "a word as number": {"number": "seven"},
        "a negative number": {"number": -1},
        "a huge number": {"number": 2**40},
    }
    fields |= changes.get(case, {})
    if case in ("no number", "no step", "no payload"):
        del fields[case.removeprefix("no ")]
    return {"hello": "world"} if case == "no fields of ours" else fields


def replace(client: Client, job_id: str, name: str, entry: Entry, fields: dict[Any, Any]) -> None:
    """Put other fields in the place of an entry of ours; nobody else could tell."""
    stream, index = pairs(job_id, [name])
    client.xdel(stream, entry.id)
    client.xadd(stream, fields)
    client.delete(index)


def add(client: Client, job_id: str, name: str, fields: dict[Any, Any]) -> None:
    """What a stranger with access to Redis may do."""
    client.xadd(keys.stream(job_id, name), fields)

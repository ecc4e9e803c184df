"""Grader runs and validations asked for over REST: the API asks, a standing grader process answers.

A request is one stream entry that exactly one process takes; its answer is a list of its own that expires. Invariants:
an asker waits no longer than it said; a process takes no request whose asker has given up; an answer that nobody
fetches expires. If a process dies while it holds a request, no answer comes and the asker's deadline passes.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

from services.job.strict_json import JsonObject
from services.store import answers, keys
from services.store.client import Client, CommandRefused, ensure_group

RequestKind = Literal["run", "validate"]

GROUP = "graders"
REPLY_KEPT_SECONDS = 60
MAX_BLOCK_SECONDS = 5.0


class GraderUnavailable(Exception):
    """No grader process answered in time."""


@dataclass(frozen=True)
class GraderReply:
    """An answer: an HTTP status (200 or 400) and its JSON body."""

    status: int
    body: JsonObject


@dataclass(frozen=True)
class GraderRequest:
    """A request as taken; `body` is the request's JSON, `deadline` in seconds since the epoch."""

    request_id: str
    kind: RequestKind
    body: JsonObject
    deadline: float


def ask(client: Client, kind: RequestKind, body: JsonObject, timeout_seconds: float) -> GraderReply:
    """Hand a request to whichever grader process takes it, and wait. Raises GraderUnavailable."""
    request_id = secrets.token_hex(16)
    deadline = time.time() + timeout_seconds
    entry: dict[Any, Any] = {
        "request_id": request_id,
        "kind": kind,
        "body": json.dumps(body),
        "deadline": repr(deadline),
    }
    entry_id = client.xadd(keys.GRADER_REQUESTS, entry)
    while (left := deadline - time.time()) > 0:
        # Redis cuts the time-out to milliseconds, and takes 0 for ever.
        block_seconds = max(0.01, min(left, MAX_BLOCK_SECONDS))
        reply: Any = client.blpop([keys.grader_reply(request_id)], timeout=block_seconds)
        if reply is not None:
            return GraderReply(**json.loads(reply[1]))
    client.xdel(keys.GRADER_REQUESTS, answers.text(entry_id))
    raise GraderUnavailable(f"no grader process answered within {timeout_seconds:g} seconds")


def take(client: Client, block_seconds: float = 0.0) -> GraderRequest | None:
    """The next request, now this process's own; None when none came within `block_seconds` (at most 5)."""
    block = int(min(block_seconds, MAX_BLOCK_SECONDS) * 1000) or None
    try:
        found: Any = client.xreadgroup(GROUP, GROUP, {keys.GRADER_REQUESTS: ">"}, count=1, block=block, noack=True)
    except CommandRefused as error:
        if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
            raise
        ensure_group(client, keys.GRADER_REQUESTS, GROUP)
        return None
    if not found:
        return None
    entry_id, stored = found[0][1][0]
    client.xdel(keys.GRADER_REQUESTS, answers.text(entry_id))
    values = answers.fields(stored)
    deadline = float(values["deadline"])
    if deadline <= time.time():
        return None
    kind: RequestKind = "validate" if values["kind"] == "validate" else "run"
    return GraderRequest(values["request_id"], kind, json.loads(values["body"]), deadline)


def answer(client: Client, request_id: str, status: int, body: JsonObject) -> None:
    """Answer a request that was taken. Nobody reads a second answer to it."""
    key = keys.grader_reply(request_id)
    pipeline = client.pipeline(transaction=True)
    pipeline.rpush(key, json.dumps({"status": status, "body": body}))
    pipeline.expire(key, REPLY_KEPT_SECONDS)
    pipeline.execute()

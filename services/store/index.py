"""Ids by time of creation, paged so that new ones never shift a page.

Invariant: an index only grows. A deleted record keeps its id here. So a reader who deletes while paging can go on from
a deleted id.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

from services.store import answers
from services.store.client import Client, call

CHUNK = 100


class UnknownCursor(ValueError):
    """A page was asked for after an id that does not exist."""

    def __init__(self, after: str) -> None:
        super().__init__(f"no such id: {after!r}")
        self.after = after


def new_id(prefix: str) -> str:
    """`PREFIX-` + 21 hex digits: 11 of milliseconds, 10 of chance. Ids made later sort later."""
    return f"{prefix}-{time.time_ns() // 1_000_000:011x}{secrets.token_hex(5)}"


def ids_after(client: Client, index: str, after: str | None, *, newest_first: bool = True) -> Iterator[str]:
    """Ids of a sorted set from just after `after`, lazily in chunks. Raises UnknownCursor."""
    position = after or ""
    while True:
        chunk = call(client, "page", [index], [position, CHUNK, int(newest_first)])
        if chunk is None:
            raise UnknownCursor(position)
        ids = answers.texts(chunk)
        yield from ids
        if len(ids) < CHUNK:
            return
        position = ids[-1]

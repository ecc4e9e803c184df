"""Ids by time, paged without holes however many there are."""

from __future__ import annotations

import pytest

from services.store import index
from services.store.client import Client
from services.store.index import UnknownCursor, ids_after, new_id


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
def test_all_ids_come_once_in_order_however_they_fall_into_chunks(
    client: Client, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(index, "CHUNK", 3)
    made = [f"id-{number}" for number in range(count)]
    for number, name in enumerate(made):
        client.zadd("index", {name: number})
    assert list(ids_after(client, "index", None)) == made[::-1]
    assert list(ids_after(client, "index", None, newest_first=False)) == made
    for position, name in enumerate(made):
        assert list(ids_after(client, "index", name)) == made[:position][::-1]
        assert list(ids_after(client, "index", name, newest_first=False)) == made[position + 1 :]


def test_a_page_after_an_id_that_never_was_is_refused(client: Client) -> None:
    client.zadd("index", {"id-1": 1})
    with pytest.raises(UnknownCursor, match="'id-2'") as unknown:
        list(ids_after(client, "index", "id-2"))
    assert unknown.value.after == "id-2"


def test_an_id_is_its_prefix_and_21_hex_digits() -> None:
    prefix, digits = new_id("ftjob").split("-")
    assert prefix == "ftjob" and len(digits) == 21 and int(digits, 16) > 0

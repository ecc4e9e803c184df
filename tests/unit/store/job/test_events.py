"""A job's events are bounded: the oldest go."""

from __future__ import annotations

import time

import pytest

from services.store.client import Client
from services.store.job import events
from services.store.job.events import Events


def test_the_newest_events_stay(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 200)
    log = Events(client)
    for number in range(500):
        log.add("ftjob-1", str(number))
    page, more = log.list("ftjob-1", limit=1000)
    assert 200 <= len(page) <= 300 and not more
    assert [event.message for event in page] == [str(number) for number in range(499, 499 - len(page), -1)]


def test_an_event_is_a_message_for_information_unless_it_says_otherwise(client: Client) -> None:
    log = Events(client)
    name = log.add("ftjob-1", "hello")
    [event] = log.follow("ftjob-1")
    assert (event.id, event.level, event.type, event.data) == (name, "info", "message", None)
    assert abs(event.created_at - time.time()) < 30


def test_a_full_page_says_whether_there_are_more(client: Client) -> None:
    log = Events(client)
    ids = [log.add("ftjob-1", str(number)) for number in range(3)][::-1]
    for limit, more in ((1, True), (2, True), (3, False), (4, False)):
        page, there_are_more = log.list("ftjob-1", limit=limit)
        assert ([event.id for event in page], there_are_more) == (ids[:limit], more)
    assert log.list("ftjob-2") == ([], False)


def test_a_follower_who_does_not_wait_is_answered_at_once(client: Client) -> None:
    began = time.monotonic()
    assert Events(client).follow("ftjob-1") == [] and time.monotonic() - began < 1
    assert Events(client).follow("ftjob-1", block_seconds=0.3) == [] and time.monotonic() - began > 0.25

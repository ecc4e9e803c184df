"""A job's events are bounded: the oldest go."""

from __future__ import annotations

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

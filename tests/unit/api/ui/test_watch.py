"""One reading for all who watch, none for nobody, and a store that is away for a moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from services.api.ui import watch as module
from services.api.ui.watch import Following, Watch
from services.store.client import StoreError


@dataclass(frozen=True)
class Look:
    number: int
    pause_seconds: float = 0.01


class Reading:
    """Counts its calls; fails in those that `away` names."""

    def __init__(self, *away: int, error: Exception | None = None) -> None:
        self.calls = 0
        self._away = away
        self._error = error or StoreError("away")

    def look(self) -> Look:
        self.calls += 1
        if self.calls in self._away:
            raise self._error
        return Look(self.calls)


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


def test_all_who_watch_share_each_look_and_nobody_costs_nothing() -> None:
    reading = Reading()
    seen: dict[str, list[int]] = {"a": [], "b": []}
    listeners = {name: lambda look, kept=kept: kept.append(look.number) for name, kept in seen.items()}

    async def run() -> None:
        watch = Watch(reading.look)
        assert reading.calls == 0
        for listener in (*listeners.values(), listeners["a"]):
            watch.join(listener)
        await until(lambda: len(seen["a"]) >= 3)
        watch.leave(listeners["a"])
        known = len(seen["a"])
        await until(lambda: len(seen["b"]) >= known + 2)
        assert len(seen["a"]) == known and seen["b"][:known] == seen["a"]
        watch.leave(listeners["b"])
        await asyncio.sleep(0.05)
        calls = reading.calls
        await asyncio.sleep(0.1)
        assert reading.calls == calls and not watch.is_watched
        watch.join(listeners["b"])
        await until(lambda: reading.calls > calls)
        watch.leave(listeners["b"])

    asyncio.run(run())
    assert seen["b"] == sorted(set(seen["b"])), "a listener that joins twice hears once"


@pytest.mark.parametrize("error", [StoreError("away"), KeyError("a record of another version")])
def test_what_can_not_be_read_is_told_and_asked_for_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    heard: list[Look | None] = []

    async def run() -> None:
        watch = Watch(Reading(2, 3, error=error).look)
        watch.join(heard.append)
        await until(lambda: len(heard) >= 4)
        watch.leave(heard.append)
        assert watch.look is not None

    asyncio.run(run())
    assert [look and look.number for look in heard[:4]] == [1, None, None, 4]


def test_a_page_follows_what_it_shows_while_it_is_seen() -> None:
    heard: list[str] = []

    async def run() -> None:
        first, second, page = Watch(Reading().look), Watch(Reading().look), Following()
        end_first = page.add(first, lambda look: heard.append("first"))
        assert not first.is_watched, "nobody sees it yet"
        page.join()
        page.add(second, lambda look: heard.append("second"))
        await until(lambda: {"first", "second"} <= set(heard))
        end_first()
        assert not first.is_watched and second.is_watched
        page.leave()
        assert not second.is_watched
        page.join()
        assert second.is_watched and not first.is_watched, "what has ended stays so"
        page.leave()

    asyncio.run(run())


def test_a_change_is_looked_at_at_once() -> None:
    heard: list[Look | None] = []

    async def run() -> None:
        numbers = Reading()
        watch = Watch(lambda: Look(numbers.look().number, pause_seconds=60))
        watch.join(heard.append)
        await until(lambda: len(heard) == 1)
        watch.hurry()
        await until(lambda: len(heard) == 2)
        watch.leave(heard.append)

    asyncio.run(run())

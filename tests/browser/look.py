"""What a page shows: figures, curves, width."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from playwright.sync_api import Locator, Page

T = TypeVar("T")
POLL_MILLISECONDS = 100


def tile(page: Page, name: str) -> Locator:
    """The value of a key figure."""
    return page.locator(f'[data-tile="{name}"] .value')


def drawn(page: Page, panel: str) -> int:
    """Points of the curves that a panel's chart has drawn."""
    chart = page.locator(f'[data-panel="{panel}"] .nicegui-echart').first
    return int(
        chart.evaluate(
            "e => { const chart = getElement(Number(e.id.slice(1))).chart;"
            " return chart ? chart.getOption().series.reduce((sum, s) => sum + s.data.length, 0) : 0 }"
        )
    )


def curves(page: Page, panel: str) -> list[int]:
    """Points of each curve that a panel's chart has drawn."""
    chart = page.locator(f'[data-panel="{panel}"] .nicegui-echart').first
    script = "e => getElement(Number(e.id.slice(1))).chart.getOption().series.map(s => s.data.length)"
    return [int(points) for points in chart.evaluate(script)]


def comes(page: Page, look: Callable[[], T], what: Callable[[T], bool], seconds: float = 20.0) -> T:
    """Look again until it is as it should be; what was seen then. AssertionError when it doesn't come to that."""
    deadline = time.monotonic() + seconds
    while not what(seen := look()):
        assert time.monotonic() < deadline, seen
        page.wait_for_timeout(POLL_MILLISECONDS)
    return seen


def settle(page: Page) -> None:
    """Wait until nothing moves: no animation runs that has an end, and the page keeps its size."""
    page.wait_for_function(
        """() => {
            const root = document.documentElement, size = `${root.scrollWidth} ${root.scrollHeight}`
            const still = window.sizeBefore === size
            window.sizeBefore = size
            const ends = animation => animation.effect.getTiming().iterations !== Infinity
            return still && !document.getAnimations().some(one => one.playState === "running" && ends(one))
        }""",
        polling=2 * POLL_MILLISECONDS,
    )


def shift(page: Page) -> int:
    """By how much the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))

"""What a page shows: figures, curves, width."""

from __future__ import annotations

from playwright.sync_api import Locator, Page


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


def shift(page: Page) -> int:
    """By how much the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))

"""The frame of a panel: a title, its explanation, tools, and a body that is a chart, a text or anything else."""

from __future__ import annotations

from typing import Literal

from nicegui import ui
from nicegui.element import Element

from services.api.ui.charts.base import Options
from services.api.ui.words import EXPLAIN

Width = Literal["", "wide", "third"]


class Panel:
    """An empty panel in the current container; fill `body`, put controls into `tools`."""

    def __init__(self, key: str, title: str, *, width: Width = "") -> None:
        with ui.element("section").classes(f"panel {width}").props(f'data-panel="{key}"') as self.root:
            with ui.element("div").classes("panel-head"):
                with ui.element("h2"):
                    ui.html(title, sanitize=False, tag="span")
                if key in EXPLAIN:
                    _explanation(title, EXPLAIN[key])
                self.tools = ui.element("div").classes("tools")
            self.body: Element = ui.element("div").classes("stack").style("flex: 1")


class ChartPanel(Panel):
    """A panel with one chart; a sentence in its place while there is nothing to draw."""

    def __init__(self, key: str, title: str, *, width: Width = "", tall: bool = False) -> None:
        super().__init__(key, title, width=width)
        with self.body:
            self._chart = ui.echart({}).classes("chart gone" + (" tall" if tall else ""))
            self._chart.props(f'role="img" aria-label="{title}"')
            self._empty = ui.label("").classes("empty")
        self._shown: Options | None = None

    def show(self, options: Options | None, empty: str) -> None:
        """Draw `options`, or say `empty`."""
        if options is None:
            self._chart.classes(add="gone")
            self._empty.classes(remove="gone")
            self._empty.text = empty
        elif options != self._shown:
            self._chart.classes(remove="gone")
            self._empty.classes(add="gone")
            self._chart.options.clear()
            self._chart.options.update(options)
            self._chart.update()
        self._shown = options


class HtmlPanel(Panel):
    """A panel whose body is HTML that we wrote ourselves. The code that makes it escapes every text."""

    def __init__(self, key: str, title: str, *, width: Width = "") -> None:
        super().__init__(key, title, width=width)
        with self.body:
            self._html = ui.html("", sanitize=False).classes("stack")

    def show(self, content: str) -> None:
        """Replace the body if it differs."""
        if self._html.content != content:
            self._html.content = content


def _explanation(title: str, text: str) -> None:
    """An icon that opens the text, by mouse, finger or key."""
    button = ui.element("button").classes("icon-button info").props(f'type="button" aria-label="About: {title}"')
    with button:
        ui.icon("info_outline")
        with ui.menu().props('anchor="bottom left" self="top left"'), ui.element("div").classes("explain"):
            ui.label(text)

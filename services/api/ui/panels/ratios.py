"""The panels of importance ratios: heat map, newest histogram, gate. One choice of staleness is for all three."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from services.api.ui.charts.ratios import gate_chart, heat_map, ratio_bars
from services.api.ui.job_reading import JobLook
from services.api.ui.palette import Palette
from services.api.ui.panels.panel import ChartPanel
from services.api.ui.series import ALL, Ratios
from services.observability.metrics import MAX_STALENESS_LABEL

UNITS: dict[Ratios, str] = {"token": "tokens", "sequence": "sequences"}


class RatioPanels:
    """Three panels; `redraw` is called when the choice changes."""

    def __init__(self, redraw: Callable[[], None]) -> None:
        self._heat = ChartPanel("heat", "Ratios over time", width="wide", tall=True)
        with self._heat.tools:
            self._kind = ui.toggle({"token": "tokens", "sequence": "sequences"}, value="token", on_change=redraw)
            self._kind.props("unelevated no-caps dense")
            self._staleness = ui.select({ALL: "every staleness"}, value=ALL, on_change=redraw)
            self._staleness.props('dense outlined options-dense aria-label="Staleness"').style("min-width: 150px")
        self._bars = ChartPanel("histogram", "Ratios of the newest step", tall=True)
        self._drawn: object = None
        self._gate = ChartPanel("gate", "The gate, and where the tokens lie", tall=True)

    def draw(self, palette: Palette, look: JobLook, last: int | None, waiting: str) -> None:
        """Show a job."""
        self._offer(look.series.staleness)
        kind: Ratios = self._kind.value
        chosen = str(self._staleness.value)
        drawn = (look.series, look.gate is None, palette, last, kind, chosen)
        if drawn == self._drawn and len(look.series):
            return
        self._drawn = drawn
        table = look.series.histogram(kind, chosen, last)
        steps = look.series.steps(last)
        nothing = f"No {UNITS[kind]} of this staleness were trained" if len(steps) else waiting
        self._heat.show(heat_map(palette, steps, table, UNITS[kind]) if len(steps) else None, nothing)
        newest = table[-1] if len(table) else None
        missing = f"The newest step has no {UNITS[kind]} of this staleness" if len(steps) else waiting
        self._bars.show(None if newest is None else ratio_bars(palette, newest, UNITS[kind]), missing)
        tokens = look.series.histogram("token", chosen, 1)
        curve = gate_chart(palette, look.gate, tokens[-1]) if look.gate and len(tokens) else None
        self._gate.show(curve, "This objective has no gate to draw" if look.gate else waiting)

    def _offer(self, staleness: list[str]) -> None:
        last = str(MAX_STALENESS_LABEL)
        names = {at: f"staleness {at}{' and more' if at == last else ''}" for at in staleness}
        options = {ALL: "every staleness", **names}
        if options != self._staleness.options:
            self._staleness.set_options(options)

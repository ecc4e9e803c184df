"""Sampled completions, their tokens coloured by ratio, by gate weight or by the version that sampled them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal

from nicegui import ui

from services.api.ui.html import Markup, empty, safe
from services.api.ui.palette import Palette
from services.api.ui.panels.panel import Panel
from services.api.ui.words import number
from services.observability.metrics import RATIO_BUCKETS
from services.records.samples import SampledGroup, SampledTrajectory

Colouring = Literal["ratio", "weight", "version"]
WEIGHT_EDGES = (0.1, 0.5, 0.8, 0.95, 1.05, 1.5)
"""Upper edges of the classes of gate weights."""
MOST_TOKENS = 4000
"""Of one completion on a page."""


class SamplesPanel:
    """Choose a group and a colouring; the group's completions below."""

    def __init__(self, redraw: Callable[[], None]) -> None:
        self._samples: Sequence[SampledGroup] = ()
        self._drawn: tuple[SampledGroup | None, object, bool, str] | None = None
        self._panel = Panel("samples", "Sampled completions", width="wide")
        with self._panel.tools:
            names = {"ratio": "ratio", "weight": "gate weight", "version": "version"}
            self._colouring = ui.toggle(names, value="ratio", on_change=redraw).props("unelevated no-caps dense")
            self._group = ui.select({}, on_change=redraw).props('dense outlined options-dense aria-label="Group"')
            self._group.style("min-width: 190px")
        with self._panel.body:
            self._html = ui.html("", sanitize=False).classes("stack")

    def take(self, samples: Sequence[SampledGroup]) -> None:
        """The groups there are now, oldest first; the newest is shown until somebody chooses another."""
        newest_first = list(samples)[::-1]
        followed = self._group.value is None or self._group.value == _name(self._samples[-1:])
        options = {_name([sample]): f"step {sample.step} · group {sample.group_number}" for sample in newest_first}
        self._samples = samples
        if options and (options != self._group.options):
            kept = self._group.value if not followed and self._group.value in options else next(iter(options))
            self._group.set_options(options, value=kept)

    def draw(self, palette: Palette, waiting: str) -> None:
        """Show the chosen group."""
        chosen = next((sample for sample in self._samples if _name([sample]) == self._group.value), None)
        wanted = (chosen, self._colouring.value, palette.dark, waiting)
        if wanted != self._drawn:  # thousands of coloured tokens take a while
            self._drawn = wanted
            self._html.content = empty(waiting) if chosen is None else group_html(palette, chosen, wanted[1])


def _name(samples: Sequence[SampledGroup]) -> str | None:
    return f"{samples[-1].step}/{samples[-1].group_number}" if samples else None


def group_html(palette: Palette, sample: SampledGroup, colouring: Colouring) -> Markup:
    """A group: legend, prompt, completions from the best reward to the worst."""
    trajectories = sorted(sample.trajectories, key=lambda trajectory: -trajectory.reward)
    versions = sorted({version for trajectory in trajectories for version in trajectory.versions})
    prompt = sample.prompt or "(an empty prompt)"
    parts = [
        _legend(palette, colouring, versions),
        Markup(f'<div><div class="muted small">Prompt</div><div class="prompt">{safe(prompt)}</div></div>'),
        *(_completion(palette, trajectory, colouring, versions) for trajectory in trajectories),
    ]
    return Markup(f'<div class="stack">{"".join(parts)}</div>')


def _completion(
    palette: Palette, trajectory: SampledTrajectory, colouring: Colouring, versions: Sequence[int]
) -> Markup:
    columns = (trajectory.tokens, trajectory.log_ratios, trajectory.weights, trajectory.versions)
    rows = list(zip(*columns, strict=False))
    tokens = "".join(_token(palette, *row, colouring, versions) for row in rows[:MOST_TOKENS])
    left_out = len(rows) - MOST_TOKENS
    rest = f'<p class="muted small">and {left_out} more tokens</p>' if left_out > 0 else ""
    mean = sum(row[1] for row in rows) / len(rows) if rows else 0.0
    facts = (
        f"reward <b>{safe(number(trajectory.reward))}</b> · advantage {safe(number(trajectory.advantage))} · "
        f"{len(rows)} tokens · sequence ratio {safe(number(_exp(mean), 4))}"
    )
    return Markup(
        f'<div class="completion"><div class="muted small">{facts}</div><div class="tokens">{tokens}</div>{rest}</div>'
    )


def _token(
    palette: Palette,
    text: str,
    log_ratio: float,
    weight: float,
    version: int,
    colouring: Colouring,
    versions: Sequence[int],
) -> str:
    ratio = _exp(log_ratio)
    if colouring == "ratio":
        back = palette.ratios[bisect_left(RATIO_BUCKETS, ratio)]
    elif colouring == "weight":
        back = _weight_colours(palette)[bisect_left(WEIGHT_EDGES, weight)]
    else:
        back = _version_colour(palette, versions.index(version))
    tip = (
        f"token {text!r}\nratio {number(ratio, 5)}  (log {number(log_ratio, 4)})\n"
        f"gate weight {number(weight, 4)}\nsampled by v{version}"
    )
    shown = safe(_visible(text))
    return f'<span style="background:{back};color:{_ink(back)}" data-tip="{safe(tip)}">{shown}</span>'


def _visible(text: str) -> str:
    """A token with its white space to be seen."""
    if text == "":
        return "∅"
    return text.replace("\n", "⏎\n").replace("\t", "⇥") if text.strip(" ") else "·" * len(text)


def _exp(value: float) -> float:
    return math.exp(max(-50.0, min(50.0, value)))


def _weight_colours(palette: Palette) -> tuple[str, ...]:
    """From 'ignored' over 'as REINFORCE' to 'more than that'."""
    neutral = palette.grid
    heat = palette.heat
    return (heat[5], heat[4], heat[3], heat[2], neutral, palette.ratios[9], palette.ratios[11])


def _version_colour(palette: Palette, place: int) -> str:
    return palette.lines[place % len(palette.lines)]


def _ink(back: str) -> str:
    """Black or white, whichever can be read on this colour."""
    red, green, blue = (int(back[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#10161d" if light > 0.18 else "#ffffff"


def _legend(palette: Palette, colouring: Colouring, versions: Sequence[int]) -> Markup:
    if colouring == "ratio":
        edges = [f"≤{RATIO_BUCKETS[0]:g}", *(f"{edge:g}" for edge in RATIO_BUCKETS[1:]), f">{RATIO_BUCKETS[-1]:g}"]
        boxes, name = zip(palette.ratios, edges, strict=True), "ratio policy / behaviour, up to"
    elif colouring == "weight":
        edges = [f"≤{WEIGHT_EDGES[0]:g}", *(f"{edge:g}" for edge in WEIGHT_EDGES[1:]), f">{WEIGHT_EDGES[-1]:g}"]
        boxes, name = zip(_weight_colours(palette), edges, strict=True), "weight of the token's gradient, up to"
    else:
        pairs = [(_version_colour(palette, place), f"v{version}") for place, version in enumerate(versions)]
        boxes, name = zip(*zip(*pairs, strict=True), strict=True), "version that sampled the token"
    shown = "".join(f'<i style="background:{back};color:{_ink(back)}">{safe(text)}</i>' for back, text in boxes)
    return Markup(f'<div class="legend"><span>{name}&nbsp;</span>{shown}</div>')

"""The panels whose chart is a set of curves over steps. Each is a plain function from a job's steps to options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.api.ui.charts.base import Options
from services.api.ui.charts.lines import Line, Mark, line_chart
from services.api.ui.job_reading import JobLook
from services.api.ui.palette import Palette
from services.api.ui.panels.panel import Width
from services.api.ui.series import Column
from services.api.ui.thinning import Points, means, thin
from services.job.guard import GuardFigure

Draw = Callable[[Palette, JobLook, int | None], Options | None]
"""From the colours, a job, and how many of its newest steps to show (None: all)."""

WAITS: dict[str, Column] = {
    "wait: batch": "wait_batch",
    "wait: staleness": "wait_staleness",
    "publishing weights": "wait_publish",
    "wait: checkpoint": "wait_checkpoint",
}


@dataclass(frozen=True)
class Curves:
    """One panel."""

    key: str
    title: str
    draw: Draw
    empty: str = "No step has this figure yet"
    width: Width = ""


def reward(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """Training reward with its spread, and evaluations."""
    series = look.series
    mean, spread, steps = series.column("reward", last), series.column("reward_std", last), series.steps(last)
    known = np.isfinite(mean) & np.isfinite(spread)
    first = int(steps[0]) if len(steps) else 0
    evaluated: Points = [
        [record.step, record.reward_mean]
        for record in look.evaluations
        if record.step >= first and record.reward_mean is not None
    ]
    lines = [
        Line("below", means(steps[known], (mean - spread)[known]), palette.blue, of="band", band=True, width=0),
        Line("band", means(steps[known], 2 * spread[known]), palette.blue, of="band", band=True),
        Line("training", series.points("reward", last), palette.blue),
        Line("evaluation", evaluated, palette.orange, dashed=True, symbol="diamond"),
    ]
    return line_chart(palette, lines, "reward")


def ess(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """Effective sample size, with the limits of the job's guard."""
    lines = [
        Line("sequences", look.series.points("ess_sequence", last), palette.blue),
        Line("tokens", look.series.points("ess_token", last), palette.orange, dashed=True),
    ]
    marks = _guard_marks(look, ("ess_sequence", "guard: sequences"), ("ess_token", "guard: tokens"))
    return line_chart(palette, lines, "effective share of samples", marks=marks, high=1)


def divergence(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """k3, and what of it is mismatch and what drift."""
    series = look.series
    total, mismatch = series.column("kl_k3", last), series.column("mismatch", last)
    lines = [
        Line("total", series.points("kl_k3", last), palette.blue, width=2.2),
        Line("drift", thin(series.steps(last), total - mismatch), palette.orange, dashed=True),
        Line("engine mismatch", series.points("mismatch", last), palette.purple),
    ]
    return line_chart(palette, lines, "KL k3 (nats per token)", log=True)


def outside_band(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """Tokens outside 0.9 to 1.1."""
    lines = [
        Line("all tokens", look.series.points("outside_band", last), palette.blue),
        Line("engine mismatch alone", look.series.points("mismatch_outside_band", last), palette.purple, dashed=True),
    ]
    marks = _guard_marks(look, ("outside_band_ratio", "guard"))
    return line_chart(palette, lines, "share of tokens", per_cent=True, marks=marks, low=0)


def staleness(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """Of what was trained."""
    limit = look.record.spec.learner.max_staleness
    lines = [
        Line("oldest", look.series.points("staleness_max", last), palette.orange, steps=True),
        Line("mean", look.series.points("staleness_mean", last), palette.blue),
    ]
    return line_chart(palette, lines, "steps", low=0, high=limit + 1, marks=[Mark(limit, "limit of the job")])


def tails(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """The most extreme tokens."""
    lines = [
        Line("largest", look.series.points("log_ratio_max", last), palette.orange, dashed=True),
        Line("99 in 100 tokens are below", look.series.points("log_ratio_p99", last), palette.blue),
    ]
    return line_chart(palette, lines, "|log ratio|", low=0)


def weights(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """What the gate leaves of the gradient."""
    lines = [
        Line("weight, advantage > 0", look.series.points("weight_positive", last), palette.blue),
        Line("weight, advantage < 0", look.series.points("weight_negative", last), palette.orange, dashed=True),
        Line("share of tokens gated off", look.series.points("saturated", last), palette.purple),
    ]
    return line_chart(palette, lines, "weight and share", low=0)


def throughput(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """Tokens per second of wall time."""
    lines = [Line("trained tokens", thin(look.series.steps(last), tokens_per_second(look, last)), palette.blue)]
    return line_chart(palette, lines, "tokens / s", low=0)


def tokens_per_second(look: JobLook, last: int | None = None) -> NDArray[np.float64]:
    """By step: tokens by the time since the record before, or by the step's own seconds for the first."""
    series = look.series
    passed = np.diff(series.column("time", None), prepend=np.nan)
    own = series.column("seconds", None)
    passed = np.where(np.isfinite(passed) & (passed > 0), passed, own)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate: NDArray[np.float64] = series.column("tokens", None) / passed
    return rate[-last if last else 0 :]


def time_spent(palette: Palette, look: JobLook, last: int | None) -> Options | None:
    """Seconds of a step by what they go to."""
    series, steps = look.series, look.series.steps(last)
    parts = {name: np.nan_to_num(series.column(column, last)) for name, column in WAITS.items()}
    training = np.maximum(0, np.nan_to_num(series.column("seconds", last)) - parts["publishing weights"])
    if not len(steps):
        return None
    colours = (palette.orange, palette.purple, palette.green, palette.red)
    lines = [Line("training", means(steps, training), palette.blue, of="time", width=1)]
    for (name, values), colour in zip(parts.items(), colours, strict=True):
        if values.any():
            lines.append(Line(name, means(steps, values), colour, of="time", width=1))
    return line_chart(palette, lines, "seconds per step", low=0)


def _guard_marks(look: JobLook, *names: tuple[GuardFigure, str]) -> list[Mark]:
    guard = look.record.spec.guard
    limits = guard.limits() if guard.actions else {}
    return [Mark(limits[name].enter, text) for name, text in names if name in limits]


OVERVIEW: tuple[Curves, ...] = (
    Curves("reward", "Reward", reward),
    Curves("ess", "Effective sample size", ess),
    Curves("kl", "Distance to the behaviour policy", divergence),
    Curves("time", "Where the time goes", time_spent),
)
DRIFT: tuple[Curves, ...] = (
    Curves("kl", "Distance to the behaviour policy", divergence, "No step with a measurable distance yet"),
    Curves("ess", "Effective sample size", ess),
    Curves("band", "Tokens outside 0.9 to 1.1", outside_band),
    Curves("staleness", "Staleness of what is trained", staleness),
    Curves("tails", "The most extreme tokens", tails),
    Curves("weights", "What the gate leaves", weights),
)
SPEED: tuple[Curves, ...] = (
    Curves("throughput", "Throughput", throughput),
    Curves("time", "Where the time goes", time_spent),
)

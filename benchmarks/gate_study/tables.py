"""The results as Markdown tables, and what follows from them by the rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gate_study.drift import SETTINGS
from benchmarks.gate_study.runs import (
    FINAL_SEEDS,
    FINAL_STALENESS,
    LEARNING_RATES,
    SCREEN_SEEDS,
    SCREEN_STALENESS,
    Result,
    finalists,
    ranked,
    read,
)

SHOWN_FIGURES = ("bias", "deviation", "error", "pull")
COLLAPSED_BELOW = 0.24
"""Half of what the starter can do."""
STANDARD_ERRORS = 2.0

Cell = tuple[int, float]
"""Staleness and learning rate."""
FINAL_CELLS: tuple[Cell, ...] = tuple((staleness, rate) for rate in LEARNING_RATES for staleness in FINAL_STALENESS)
SCREEN_CELLS: tuple[Cell, ...] = tuple((staleness, rate) for rate in LEARNING_RATES for staleness in SCREEN_STALENESS)


def cell(results: Sequence[Result], objective: str, where: Cell) -> list[float]:
    """The tails of one objective's runs, by seed."""
    own = [one for one in results if one["objective"] == objective]
    runs = [one for one in own if (one["staleness"], one["learning_rate"]) == where]
    return [one["tail"] for one in sorted(runs, key=lambda one: one["seed"])]


def scores(results: Sequence[Result], objective: str) -> list[float]:
    """Its mean over all conditions of the finals, for every seed."""
    cells = [cell(results, objective, where) for where in FINAL_CELLS]
    return [statistics.fmean(one) for one in zip(*cells, strict=True)]


def names(results: Sequence[Result]) -> list[str]:
    return [name for name, _ in ranked(results)]


def simulated_error(simulated: Sequence[Result], objective: str) -> float:
    """Root of the mean squared error over all settings."""
    errors = [one["error"] for one in simulated if one["objective"] == objective]
    if len(errors) != len(SETTINGS):
        raise ValueError(f"simulated: {objective} was measured on {len(errors)} settings of {len(SETTINGS)}")
    return math.sqrt(statistics.fmean(error**2 for error in errors))


def behind(results: Sequence[Result], objective: str, best: str) -> tuple[float, float]:
    """How far it is behind, over seeds: mean of the paired differences and its standard error."""
    differences = [b - a for a, b in zip(scores(results, objective), scores(results, best), strict=True)]
    return statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))


def choice(results: Sequence[Result], simulated: Sequence[Result], finalists: Sequence[str]) -> tuple[str, list[str]]:
    """The winner by the rule, and those that it was tied with before the tie was broken, itself included."""
    candidates = [name for name in finalists if name.startswith("sspo ")]
    lowest = {name: min(min(cell(results, name, where)) for where in FINAL_CELLS) for name in candidates}
    sound = [name for name in candidates if lowest[name] >= COLLAPSED_BELOW] or candidates
    best = max(sound, key=lambda name: statistics.fmean(scores(results, name)))
    tied = [best]
    for name in sound:
        mean, error = behind(results, name, best)
        if name != best and mean <= STANDARD_ERRORS * error:
            tied.append(name)
    return min(tied, key=lambda name: simulated_error(simulated, name)), tied


def final_table(results: Sequence[Result]) -> str:
    """Mean ± standard deviation over seeds for every condition, and over all of them."""
    head = ["objective", *(f"{staleness}, {rate:g}" for staleness, rate in FINAL_CELLS), "all"]
    rows = []
    for name in names(results):
        values = [cell(results, name, where) for where in FINAL_CELLS]
        rows.append([name, *(_spread(one) for one in values), _spread(scores(results, name))])
    return _table(head, rows)


def screen_table(results: Sequence[Result]) -> str:
    """Tails on the first seed and, where there was one, on the second: means over the conditions."""
    head = ["candidate", *(f"{staleness}, {rate:g}" for staleness, rate in SCREEN_CELLS), "first seed", "both seeds"]
    first = ranked([one for one in results if one["seed"] == SCREEN_SEEDS[0]])
    rows = []
    for name, mean in first:
        values = [cell(results, name, where) for where in SCREEN_CELLS]
        both = statistics.fmean(v for one in values for v in one) if len(values[0]) > 1 else None
        shown = [f"{statistics.fmean(one):.2f}" for one in values]
        rows.append([name, *shown, f"{mean:.3f}", f"{both:.3f}" if both is not None else ""])
    return _table(head, rows)


def simulated_table(results: Sequence[Result], objectives: Sequence[str]) -> str:
    """Figures of some objectives for every setting, "bias / deviation / error / pull"."""
    rows = []
    for name in objectives:
        by_setting = {one["setting"]: one for one in results if one["objective"] == name}
        shown = [" / ".join(f"{by_setting[s][figure]:.2f}" for figure in SHOWN_FIGURES) for s in SETTINGS]
        rows.append([name, *shown, f"{simulated_error(results, name):.2f}"])
    return _table(["objective", *SETTINGS, "rms error"], rows)


def main(folder: Path) -> None:
    """Prints what there is."""
    simulated, screened, finished = (read(folder / f"{name}.jsonl") for name in ("simulated", "screen", "finals"))
    if simulated:
        print(simulated_table(simulated, sorted({one["objective"] for one in simulated})), "\n")
    if screened:
        print(screen_table(screened), "\n\nfinalists:", ", ".join(finalists(screened)), "\n")
    if len({one["seed"] for one in finished}) == len(FINAL_SEEDS):
        print(final_table(finished), "\n")
        winner, tied = choice(finished, simulated, finalists(screened))
        best = max(tied, key=lambda name: statistics.fmean(scores(finished, name)))
        for name in names(finished):
            mean, error = behind(finished, name, best)
            print(f"{name:<32} behind {best} by {mean:+.3f} ± {error:.3f}")
        print(f"\ntied: {', '.join(tied)}\nchosen: {winner}")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

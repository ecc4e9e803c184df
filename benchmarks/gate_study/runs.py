"""Which runs the screen and the finals consist of, and running them: one at a time, resumable, a JSON line for each.

The screen has two rounds: all candidates on one seed, then the better half of them on one more. The finals are the best
four of the screen, GRPO and GMPO, on five seeds that the screen had not. `rule.md` says the same in words.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gate_study.candidates import label
from benchmarks.gate_study.starter import starter
from benchmarks.gate_study.task import Run, measure

LEARNING_RATES = (3e-4, 6e-4)
"""A gentle and a hard one."""
SCREEN_SEEDS = (101, 102)
SCREEN_STALENESS = (4, 16)
SCREENED = (
    *(label("sspo", gate, "outward", tau) for gate in ("logarctan_a", "sigmoid_norm") for tau in (1, 3, 10)),
    *(label("sspo", gate, "outward", 3) for gate in ("erf", "arctan", "softsign")),
    label("sspo", "logarctan_a", "both", 3),
    *(label("sspo", "sigmoid_norm", "both", tau) for tau in (3, 10)),
    label("sspo", "sigmoid_raw", "both", 10),
    *(label("sapo", "sigmoid_norm", "both", tau) for tau in (1, 10)),
    *(label("sapo", gate, "outward", 3) for gate in ("logarctan_a", "sigmoid_norm")),
)
FINAL_SEEDS = (1, 2, 3, 4, 5)
FINAL_STALENESS = (0, 4, 16)
FINALISTS = 4
REFERENCES = ("grpo", "gmpo")
CONTROL = label("sspo", "logarctan_a", "both", 3)
"""The present default of the class, both-sided: for comparison, unless it is among the finalists."""

Result = dict[str, Any]


def grid(objectives: Sequence[str], staleness: Sequence[int], seeds: Sequence[int]) -> list[Run]:
    """Seed by seed, so that what is there after an interruption compares all objectives."""
    return [
        Run(objective, steps_old, learning_rate, seed)
        for seed, learning_rate, steps_old, objective in itertools.product(seeds, LEARNING_RATES, staleness, objectives)
    ]


def read(path: Path) -> list[Result]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ranked(results: Sequence[Result]) -> list[tuple[str, float]]:
    """(objective, mean tail), the best first. All objectives must have the same runs, so that means compare."""
    by_name: dict[str, list[float]] = {}
    for one in results:
        by_name.setdefault(one["objective"], []).append(one["tail"])
    if len({len(values) for values in by_name.values()}) > 1:
        raise ValueError("results: not all objectives have the same number of runs")
    return sorted(((name, sum(v) / len(v)) for name, v in by_name.items()), key=lambda pair: -pair[1])


def second_round(results: Sequence[Result]) -> list[str]:
    """The better half of the candidates after the first seed of the screen."""
    first = ranked([one for one in results if one["seed"] == SCREEN_SEEDS[0]])
    return [name for name, _ in first[: len(SCREENED) // 2]]


def finalists(results: Sequence[Result]) -> list[str]:
    """The best of those that ran on both seeds of the screen."""
    kept = second_round(results)
    return [name for name, _ in ranked([one for one in results if one["objective"] in kept])[:FINALISTS]]


def screen(folder: Path) -> None:
    """Both rounds of the screen."""
    path = folder / "screen.jsonl"
    run_all(grid(SCREENED, SCREEN_STALENESS, SCREEN_SEEDS[:1]), path, folder)
    run_all(grid(second_round(read(path)), SCREEN_STALENESS, SCREEN_SEEDS[1:]), path, folder)
    for name, mean in ranked([one for one in read(path) if one["seed"] == SCREEN_SEEDS[0]]):
        print(f"{name:<32}{mean:.3f}")
    print("finalists:", ", ".join(finalists(read(path))))


def finals(folder: Path) -> None:
    """The final runs of what the screen has chosen."""
    chosen = finalists(read(folder / "screen.jsonl"))
    for objectives in ((*chosen, *REFERENCES), (CONTROL,)):
        run_all(grid(objectives, FINAL_STALENESS, FINAL_SEEDS), folder / "finals.jsonl", folder)


def run_all(runs: Sequence[Run], path: Path, folder: Path) -> None:
    """Runs what the file hasn't got yet; it is read again before each, so that two processes can share the work."""
    model = starter(folder)
    for number, run in enumerate(runs, start=1):
        if _key(dataclasses.asdict(run)) in {_key(one) for one in read(path)}:
            continue
        result = {name: round(x, 5) if isinstance(x, float) else x for name, x in measure(run, model).items()}
        with path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(
            f"{number}/{len(runs)} {run.objective} staleness {run.staleness} lr {run.learning_rate:g} seed {run.seed}: "
            f"{result['tail']:.3f} in {result['seconds']:.0f} s",
            flush=True,
        )


def _key(fields: Result) -> tuple[Any, ...]:
    return tuple(fields[name] for name in ("objective", "staleness", "learning_rate", "seed", "steps"))

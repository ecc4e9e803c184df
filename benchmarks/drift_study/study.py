"""Which runs the study consists of, and running them: one at a time, resumable, a JSON line for each.

The multiplier of the learning rate is the smallest of 2, 4, 8, 16, 32 at which the held-out reward of three of three
seeds ends below half of its best; at it the same seeds run once more with a guard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.drift_study.job import LEARNING_RATE, Outcome, Run, play, workplace
from benchmarks.gate_study.starter import starter
from services.records.step import StepRecord
from testbed.engines import Fault

SEEDS = (1, 2, 3)
MULTIPLIERS = (2, 4, 8, 16, 32)
GUARD = {
    "actions": ["warn", "lower_lr", "rollback", "pause"],
    "window_steps": 2,
    "cooldown_steps": 2,
    "kl_k3": {"enter": 0.03, "leave": 0.01},
    "learning_rate_factor": 0.25,
    "max_rollbacks": 4,
}
"""Quick, since the policy is gone within ten steps; the limits are ten and three times what a calm job has."""
INJECTED = (
    Run("late", max_staleness=16, fault=Fault(late_steps=16)),
    Run("stale-engine", stale_worker=True),
    Run("temperature", fault=Fault(temperature=0.8)),
    Run("truncated", fault=Fault(top_p=0.9)),
    Run("bfloat16", fault=Fault(bfloat16=True)),
    Run("raw-truncated", fault=Fault(top_p=0.9, raw_logprobs=True)),
)
EXPECTED = {
    "late": "weights_late",
    "stale-engine": "stale_engine",
    "temperature": "sampling_temperature",
    "truncated": "truncated_sampling",
    "bfloat16": "engine_numerics",
    "raw-truncated": "hidden_sampling",
}
FIGURES = ("kl_k3", "ess_token", "ess_sequence", "outside_band_ratio", "drift_share", "mismatch_kl_k3")

Result = dict[str, Any]


def read(path: Path) -> list[Result]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def of(results: list[Result], name: str) -> list[Result]:
    """The runs of a name, by seed."""
    return sorted((one for one in results if one["run"] == name), key=lambda one: one["seed"])


def collapsing(results: list[Result]) -> int | None:
    """The smallest multiplier at which all seeds collapse; None if none is known."""
    for multiplier in MULTIPLIERS:
        runs = of(results, f"lr-{multiplier}")
        if len(runs) == len(SEEDS) and all(one["collapsed"] for one in runs):
            return multiplier
    return None


def wanted(results: Callable[[], list[Result]]) -> Iterator[Run]:
    """All runs of the study, in order; what the later ones are follows from the results of the earlier ones."""
    yield from (Run("calm", seed) for seed in SEEDS)
    for multiplier in MULTIPLIERS:
        yield from (Run(f"lr-{multiplier}", seed, learning_rate=multiplier * LEARNING_RATE) for seed in SEEDS)
        if collapsing(results()) is not None:
            break
    found = collapsing(results())
    if found is not None:
        for seed in SEEDS:
            yield Run(f"lr-{found}-guarded", seed, learning_rate=found * LEARNING_RATE, guard=GUARD)
    yield from INJECTED


def run(folder: Path) -> None:
    """Run what is missing in `folder`/runs.jsonl."""
    target = folder / "runs.jsonl"
    with workplace(starter(folder)) as (client, layout):
        for one in wanted(lambda: read(target)):
            done = {(result["run"], result["seed"]) for result in read(target)}
            if (one.name, one.seed) in done:
                continue
            outcome = play(one, client, layout)
            with target.open("a") as file:
                file.write(json.dumps(result_of(outcome)) + "\n")
            ending = f"{outcome.ended}, held out {outcome.last:.3f}, alerts {outcome.alerts}"
            print(f"{one.name} {one.seed}: {ending}, {outcome.seconds:.0f} s", flush=True)


def result_of(outcome: Outcome) -> Result:
    """What stays of a run."""
    return {
        "run": outcome.run,
        "seed": outcome.seed,
        "ended": outcome.ended,
        "best": outcome.best,
        "last": outcome.last,
        "collapsed": outcome.collapsed,
        "trained_of_stale": outcome.trained_of_stale,
        "findings": outcome.findings,
        "alerts": outcome.alerts,
        "events": outcome.events,
        "curve": [[step, round(value, 4)] for step, value in outcome.curve],
        "series": [series_of(record) for record in outcome.records],
        "seconds": round(outcome.seconds, 1),
    }


def series_of(record: StepRecord) -> dict[str, Any]:
    """The figures of a step that are drawn."""
    drift = {name: getattr(record.drift, name) for name in FIGURES}
    plain = {name: getattr(record, name) for name in ("step", "reward_mean", "learning_rate", "staleness_mean")}
    return {**plain, **drift, "source": record.drift.mismatch.source if record.drift.mismatch else None}

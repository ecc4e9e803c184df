"""Figures and table of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.drift_study.study import EXPECTED, INJECTED, SEEDS, Result, collapsing, of, read

FLOOR = 1e-7
"""What a k3 below it is drawn as."""
TITLES = {
    "calm": "nothing wrong",
    "late": "weights 16 steps late",
    "stale-engine": "an engine with stale weights",
    "temperature": "temperature 0.8, declared 1",
    "truncated": "top_p 0.9, undeclared",
    "bfloat16": "bfloat16 engine",
}


def plot_learning_rate(results: list[Result], path: Path) -> None:
    """Held-out reward and k3: undisturbed, unguarded, guarded."""
    found = collapsing(results)
    kinds = (
        ("calm", "tab:blue", "learning rate as it should be"),
        (f"lr-{found}", "tab:red", f"{found} times as high"),
        (f"lr-{found}-guarded", "tab:green", f"{found} times as high, guarded"),
    )
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    for name, colour, label in kinds:
        for number, one in enumerate(of(results, name)):
            shown = label if number == 0 else None
            values = [value for _, value in one["curve"]]
            axes[0].plot(values, color=colour, linewidth=1.1, label=shown)
            axes[1].plot([step["kl_k3"] for step in one["series"]], color=colour, linewidth=0.9, label=shown)
    axes[0].set(xlabel="measurements, one every two steps", ylabel="held-out reward", ylim=(0, None))
    axes[1].set(xlabel="step that survived", ylabel="k3", yscale="log")
    axes[0].legend(fontsize=7, frameon=False)
    _save(figure, path)


def plot_parts(results: list[Result], path: Path) -> None:
    """Of each injected fault: how much of k3 is engine mismatch, how much is drift."""
    figure, axes = plt.subplots(2, 3, figsize=(9.0, 5.0), layout="constrained", sharex=True, sharey=True)
    for axis, (name, title) in zip(axes.flat, TITLES.items(), strict=True):
        runs = of(results, name)
        if not runs:
            continue
        series = runs[0]["series"]
        steps = [one["step"] for one in series]
        axis.plot(steps, [max(one["kl_k3"], FLOOR) for one in series], color="tab:blue", label="all of it")
        apart = [_or_nan(one["mismatch_kl_k3"]) for one in series]
        axis.plot(steps, apart, color="tab:red", label="engine mismatch")
        said = EXPECTED.get(name)
        axis.set_title(f"{title}\n{said or 'nothing_wrong'}", fontsize=8)
        axis.set(yscale="log")
    for axis in axes[1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("k3")
    axes[0][0].legend(fontsize=7, frameon=False)
    _save(figure, path)


def table(results: list[Result]) -> str:
    """Markdown: learning rates, then the injected faults."""
    lines = ["| run | held-out reward at the end, by seed | collapsed | ended |", "| --- | --- | --- | --- |"]
    names = dict.fromkeys(one["run"] for one in results if one["run"].startswith(("calm", "lr-")))
    for name in names:
        runs = of(results, name)
        last = ", ".join(f"{one['last']:.2f}" for one in runs)
        ended = ", ".join(dict.fromkeys(one["ended"] for one in runs))
        lines.append(f"| {name} | {last} | {sum(one['collapsed'] for one in runs)} of {len(SEEDS)} | {ended} |")
    lines += [
        "",
        "| injected | named | first at step | everything that was said | alerts |",
        "| --- | --- | --- | --- | --- |",
    ]
    for run in INJECTED:
        for one in of(results, run.name):
            said = one["findings"]
            name = EXPECTED[run.name]
            every = ", ".join(said)
            lines.append(f"| {run.name} | {name} | {said.get(name, 'never')} | {every} | {', '.join(one['alerts'])} |")
    return "\n".join(lines)


def main(results: Path, target: Path) -> None:
    """Draw what there is."""
    found = read(results / "runs.jsonl")
    target.mkdir(parents=True, exist_ok=True)
    plot_learning_rate(found, target / "drift-learning-rate.png")
    plot_parts(found, target / "drift-parts.png")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else max(value, FLOOR)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)

"""What the demo shows at the end: reward before and after, the drift figures, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.cli.demo.measure import Accuracy

DRIFT_ROWS = (
    ("ratio_mean", "token ratio, mean", "1 on-policy"),
    ("ratio_min", "token ratio, smallest", ""),
    ("ratio_max", "token ratio, largest", ""),
    ("outside_band_ratio", "tokens outside 0.9–1.1", "share the gate works on"),
    ("kl_k3", "k3 (behaviour, policy)", "0 on-policy"),
    ("ess_sequence", "effective sample size, sequences", "1 when all weigh the same"),
    ("gate_mean", "SSPO gate S, mean", "1 on-policy"),
    ("effective_update_ratio", "effective update ratio", "what the gate lets through"),
)


def show_accuracy(console: Console, before: Accuracy, after: Accuracy) -> None:
    """The table that says whether it worked."""
    table = Table(title=f"Right answers on {after.prompts} held-out prompts")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="right" if column else "left")
    for name, old, new in (
        ("sampled at temperature 1 (the reward)", before.sampled, after.sampled),
        ("greedy", before.greedy, after.greedy),
    ):
        table.add_row(name, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}")
    console.print(table)


def show_drift(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    """Drift figures of the first, middle and last step; records are those of the metrics route, by dotted name."""
    chosen = [records[0], records[len(records) // 2], records[-1]]
    table = Table(title="Importance-ratio drift")
    table.add_column("figure")
    for record in chosen:
        table.add_column(f"step {record['step']}", justify="right")
    table.add_column("reads as", style="dim")
    for name, label, reading in DRIFT_ROWS:
        table.add_row(label, *(_figure(record.get(f"drift.{name}")) for record in chosen), reading)
    known = (record.get("drift.mismatch_kl_k3") for record in records)
    mismatch = next((value for value in known if value is not None), None)
    note = "k3 of tokens recomputed under the weights that sampled them"
    table.add_row("engine mismatch", _figure(mismatch), "", "", note)
    staleness = [_figure(record["staleness_mean"]) for record in chosen]
    table.add_row("staleness in steps, mean", *staleness, "how old the samples are")
    console.print(table)


def plot(
    path: Path, records: Sequence[Mapping[str, Any]], evaluations: Sequence[tuple[int, float]], title: str
) -> None:
    """Reward, and the drift under it, over the steps; written as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [record["step"] for record in records]
    figure, (top, middle, bottom) = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    top.plot(steps, [record["reward_mean"] for record in records], label="training batch")
    if evaluations:
        top.plot(*zip(*evaluations, strict=True), "o-", label="evaluation, greedy")
    top.set(ylabel="reward", ylim=(0, 1), title=title)
    top.legend(loc="lower right")
    for name, label in (("ratio_max", "largest"), ("ratio_mean", "mean"), ("ratio_min", "smallest")):
        middle.plot(steps, [record.get(f"drift.{name}") for record in records], label=label)
    middle.axhspan(0.9, 1.1, alpha=0.15)
    middle.set(ylabel="token ratio", yscale="log")
    middle.legend(loc="upper right")
    for name, label in (("outside_band_ratio", "outside 0.9–1.1"), ("effective_update_ratio", "effective update")):
        bottom.plot(steps, [record.get(f"drift.{name}") for record in records], label=label)
    bottom.set(ylabel="share", xlabel="step", ylim=(0, 1.05))
    bottom.legend(loc="center right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"

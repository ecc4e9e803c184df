"""The report at the end of the demo: reward before and after, the drift figures, and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.cli.demo.measure import Accuracy
from services.records.figure import Figure, path_of

Records = Sequence[Mapping[str, float | None]]
"""Figures of steps as the metrics route gives them, by dotted path; the step under "step"."""

DRIFT_ROWS: tuple[tuple[Figure, str, str], ...] = (
    (lambda s: s.drift.ratio_mean, "token ratio, mean", "1 on-policy"),
    (lambda s: s.drift.ratio_min, "token ratio, smallest", ""),
    (lambda s: s.drift.ratio_max, "token ratio, largest", ""),
    (lambda s: s.drift.outside_band_ratio, "tokens outside 0.9–1.1", "share the gate works on"),
    (lambda s: s.drift.kl_k3, "k3 (behaviour, policy)", "0 on-policy"),
    (lambda s: s.drift.ess_sequence, "effective sample size, sequences", "1 when all weigh the same"),
    (lambda s: s.drift.gate_mean, "SSPO gate S, mean", "1 on-policy"),
    (lambda s: s.drift.effective_update_ratio, "effective update ratio", "what the gate lets through"),
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


def show_drift(console: Console, records: Records) -> None:
    """Drift figures of the first, middle and last step."""
    chosen = [records[0], records[len(records) // 2], records[-1]]
    table = Table(title="Importance-ratio drift")
    table.add_column("figure")
    for record in chosen:
        table.add_column(f"step {record['step']}", justify="right")
    table.add_column("reads as", style="dim")
    for figure, label, reading in DRIFT_ROWS:
        table.add_row(label, *(_figure(record.get(path_of(figure))) for record in chosen), reading)
    mismatch = next((value for value in _curve(records, lambda s: s.drift.mismatch_kl_k3) if value is not None), None)
    note = "k3 of tokens recomputed under the weights that sampled them"
    table.add_row("engine mismatch", _figure(mismatch), "", "", note)
    staleness = [_figure(value) for value in _curve(chosen, lambda s: s.staleness_mean)]
    table.add_row("staleness in steps, mean", *staleness, "how old the samples are")
    console.print(table)


def plot(path: Path, records: Records, evaluations: Sequence[tuple[int, float]], title: str) -> None:
    """Reward, and the drift under it, over the steps; written as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [record["step"] for record in records]
    figure, (top, middle, bottom) = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    top.plot(steps, _curve(records, lambda s: s.reward_mean), label="training batch")
    if evaluations:
        top.plot(*zip(*evaluations, strict=True), "o-", label="evaluation, greedy")
    top.set(ylabel="reward", ylim=(0, 1), title=title)
    top.legend(loc="lower right")
    middle.plot(steps, _curve(records, lambda s: s.drift.ratio_max), label="largest")
    middle.plot(steps, _curve(records, lambda s: s.drift.ratio_mean), label="mean")
    middle.plot(steps, _curve(records, lambda s: s.drift.ratio_min), label="smallest")
    middle.axhspan(0.9, 1.1, alpha=0.15)
    middle.set(ylabel="token ratio", yscale="log")
    middle.legend(loc="upper right")
    bottom.plot(steps, _curve(records, lambda s: s.drift.outside_band_ratio), label="outside 0.9–1.1")
    bottom.plot(steps, _curve(records, lambda s: s.drift.effective_update_ratio), label="effective update")
    bottom.set(ylabel="share", xlabel="step", ylim=(0, 1.05))
    bottom.legend(loc="center right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _curve(records: Records, figure: Figure) -> list[float | None]:
    return [record.get(path_of(figure)) for record in records]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"

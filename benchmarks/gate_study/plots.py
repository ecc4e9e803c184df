"""The study's figures as SVG: weights over the ratio, bias and deviation, accuracy by staleness."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import torch

from benchmarks.gate_study.candidates import OBJECTIVES
from benchmarks.gate_study.drift import SETTINGS
from benchmarks.gate_study.runs import CONTROL, FINAL_STALENESS, LEARNING_RATES, REFERENCES, Result, read
from benchmarks.gate_study.tables import cell, names
from services.job.spec import objective_config
from sspo_core.objectives.compositions import compose
from sspo_core.objectives.means import Geometric

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "gate-study", "svg.fonttype": "none", "font.size": 8}
matplotlib.rcParams |= {"axes.spines.top": False, "axes.spines.right": False}

CURVES = (
    "grpo",
    "gmpo",
    "sapo sigmoid_norm both 1",
    "sspo sigmoid_raw both 10",
    "sspo logarctan_a both 3",
    "sspo logarctan_a outward 3",
    "sspo sigmoid_norm outward 3",
)
SHOWN_SETTINGS = ("lognormal", "heavy", "outlier", "skewed", "towards", "away")

LABELLED = {
    "grpo": "GRPO",
    "grpo no clip": "no clip",
    "gmpo": "GMPO",
    "gspo 0.05": "GSPO .05",
    "vespo": "VESPO",
}
KINDS: tuple[tuple[str, Callable[[str], bool], dict[str, Any]], ...] = (
    ("SSPO both", lambda n: n.startswith("sspo") and " both" in n, {"s": 10, "color": "tab:blue"}),
    ("SSPO outward", lambda n: n.startswith("sspo") and "out" in n, {"s": 10, "color": "tab:red"}),
    ("SAPO both", lambda n: n.startswith("sapo") and " both" in n, {"s": 14, "color": "tab:cyan", "marker": "^"}),
    ("SAPO outward", lambda n: n.startswith("sapo") and "out" in n, {"s": 14, "color": "tab:orange", "marker": "^"}),
    ("hard clips, others", lambda n: n in LABELLED, {"s": 12, "color": "black", "marker": "x", "linewidths": 0.8}),
)
"""Label, which objectives, and how they are drawn."""


def outlier_weight(objective: str, log_ratios: torch.Tensor, positive: bool) -> torch.Tensor:
    """k/A of the one token of a long sequence that has drifted."""
    parts = compose(objective_config(dict(OBJECTIVES[objective])))
    sign = torch.full_like(log_ratios, positive, dtype=torch.bool)
    geometric = isinstance(parts.mean, Geometric)  # then the weight is that of the other tokens, whose r is 1
    at = torch.zeros_like(log_ratios) if geometric else log_ratios
    return parts.region.log_f(at, sign).exp() * parts.region.h(log_ratios, sign)


def plot_weights(path: Path) -> None:
    """k/A over r for one outlier, for both signs of the advantage."""
    z = torch.linspace(math.log(0.2), math.log(5.0), 401, dtype=torch.float64)
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.0), layout="constrained", sharey=True)
    for axis, positive in zip(axes, (True, False), strict=True):
        for name in CURVES:
            axis.plot(z.exp(), outlier_weight(name, z, positive), label=name, linewidth=1.3)
        axis.set(xscale="log", ylim=(0, 2.1), xlabel="r", title=f"A {'>' if positive else '<'} 0")
        axis.set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
        axis.set_xticks([], minor=True)
        axis.axvline(1, color="grey", linewidth=0.5)
    axes[0].set_ylabel("weight k / A")
    axes[1].legend(fontsize=6.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _save(figure, path)


def plot_simulated(results: Sequence[Result], path: Path) -> None:
    """Bias against deviation for every setting."""
    figure, axes = plt.subplots(2, 3, figsize=(8.2, 5.0), layout="constrained")
    for axis, setting in zip(axes.flat, SHOWN_SETTINGS, strict=True):
        own = [one for one in results if one["setting"] == setting]
        for label, wanted, style in KINDS:
            found = [one for one in own if wanted(one["objective"])]
            axis.scatter([one["bias"] for one in found], [one["deviation"] for one in found], label=label, **style)
        for one in own:
            if one["objective"] in LABELLED:
                axis.annotate(LABELLED[one["objective"]], (one["bias"], one["deviation"]), fontsize=6)
        axis.set_title(SETTINGS[setting].title, fontsize=7)
        axis.set(xlabel="bias", ylabel="deviation of a batch", xlim=(0, None), ylim=(0, None))
    axes[0][0].legend(fontsize=6, frameon=False)
    _save(figure, path)


def plot_accuracy(results: Sequence[Result], path: Path) -> None:
    """Held-out accuracy by staleness, mean and standard deviation over seeds."""
    figure, axes = plt.subplots(1, len(LEARNING_RATES), figsize=(8.2, 3.0), layout="constrained", sharey=True)
    order = names(results)
    for axis, rate in zip(axes, LEARNING_RATES, strict=True):
        for number, name in enumerate(order):
            values = [cell(results, name, (staleness, rate)) for staleness in FINAL_STALENESS]
            places = [place + 0.09 * (number - len(order) / 2) for place in range(len(FINAL_STALENESS))]
            means, spread = [statistics.fmean(v) for v in values], [statistics.stdev(v) for v in values]
            line = ":" if name in (*REFERENCES, CONTROL) else "-"
            axis.errorbar(places, means, spread, fmt=f"o{line}", markersize=3.5, linewidth=0.8, capsize=2, label=name)
        axis.set_xticks(range(len(FINAL_STALENESS)), [str(staleness) for staleness in FINAL_STALENESS])
        axis.set(xlabel="staleness in steps", title=f"learning rate {rate:g}")
    axes[0].set_ylabel("held-out accuracy, last 40 steps")
    axes[-1].legend(fontsize=6.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _save(figure, path)


def main(results: Path, target: Path) -> None:
    """Draws what there are results for."""
    target.mkdir(parents=True, exist_ok=True)
    plot_weights(target / "weights.svg")
    if simulated := read(results / "simulated.jsonl"):
        plot_simulated(simulated, target / "simulated.svg")
    if finals := read(results / "finals.jsonl"):
        plot_accuracy(finals, target / "accuracy.svg")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

"""Numbers and times as people read them, and the short texts that explain each panel."""

from __future__ import annotations

import time
from datetime import UTC, datetime

NOTHING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10 ** (digits + 3) or size < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if size >= 10**digits:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return text if "e" not in text else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share as per cent."""
    return NOTHING if value is None else f"{number(100 * value)} %"


def count(value: float | None) -> str:
    """A whole number with thousands set apart."""
    return NOTHING if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A duration: its two largest units."""
    if value is None:
        return NOTHING
    if value < 1:
        return f"{1000 * value:.0f} ms" if value > 0 else "0 s"
    if value < 10:
        return f"{value:.1f} s"
    whole = int(value)
    for unit, name, below, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit} {name}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def since(moment: float | None) -> str:
    """How long ago that was."""
    return NOTHING if moment is None else seconds(max(0.0, time.time() - moment))


def clock(moment: float) -> str:
    """Date and time in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(value: float) -> str:
    """Bytes."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


EXPLAIN = {
    "reward": "Mean reward of the completions that each step trained, and of the evaluations on the validation "
    "file. The band is one standard deviation of the rewards of a step. Rewards that rise while ESS falls "
    "mean that the job learns from ever fewer of its samples.",
    "ess": "Effective sample size: how many of the samples count, as a share. 1: all weigh the same, as if the "
    "newest weights had sampled them. 0.3: it is as if seven in ten had been thrown away. Sequences weigh "
    "by the geometric mean of their token ratios.",
    "kl": "How far the policy being trained is from the one that sampled (KL, estimator k3, on a logarithmic "
    "scale). Part of it is engine mismatch: sampler and learner compute slightly different log-probs "
    "under the very same weights. The rest is drift: staleness, and the updates within a step. Less "
    "staleness or a lower learning rate cure drift, not mismatch.",
    "band": "Share of tokens whose ratio r = policy / behaviour is outside 0.9 to 1.1. These are the tokens on "
    "which the gate or the clip has something to do.",
    "staleness": "How many steps old the weights were that sampled what is trained: mean and oldest of each step. "
    "Above the job's limit groups are dropped or waited for.",
    "tails": "How far single tokens have moved: the absolute log ratio that 99 in 100 tokens stay below, and the "
    "largest. A rare large one is normal under staleness; a 99th percentile that climbs is not.",
    "heat": "Each column is a step (or a few), each row a bucket of the ratio r = policy / behaviour; the "
    "stronger the colour, the larger the share. All mass near 1: on-policy. A cloud that widens from left to "
    "right is drift. Choose one staleness to see what age alone does.",
    "histogram": "Ratios of the newest step by bucket. Blue is below 1 (the policy has become less sure of what was "
    "sampled), orange above.",
    "gate": "Above: by how much the gate changes a token's gradient, against plain REINFORCE (1), for tokens of "
    "good and of bad completions. Below, on the same axis: where the tokens of the newest step lie. "
    "Tokens under the flat part are trained fully; those where the curve is low are mostly ignored.",
    "weights": "Mean weight of a token's gradient after the gate, for good and bad completions, and the share of "
    "tokens from which the gate takes nine tenths or more. Weights that fall to 0 mean that the job has "
    "stopped learning.",
    "throughput": "Completion tokens trained per second of wall time, from one step's record to the next: waits count.",
    "time": "Where the seconds of a step go: training itself (in blue), and waits of the learner by cause. Much "
    "waiting for batches: more rollout or reward workers help. Much training: they don't.",
    "workers": "What each worker says of itself. The heartbeat should be a few seconds old. Scaling sets how many "
    "are wanted; the controller starts and drains them. 0 is allowed: the job waits.",
    "queues": "What is on its way between the parts, by stream. A queue that grows names the part that is too slow: "
    "prompts wait for rollout workers, trajectories for reward workers, scored groups for the learner.",
    "ledger": "Every group that was ever issued: trained, dropped for a counted reason, or found on its way. "
    "Missing should be 0; such groups are issued again.",
    "guard": "The drift guard looks at means over a window of steps. Level 0: all is well. In an alarm it climbs "
    "the ladder of the job's actions.",
    "samples": "Groups that were trained: what the model wrote, token by token. Colour by ratio to see which tokens "
    "the policy has moved away from, by gate weight to see which are trained, by version to see where the "
    "weights changed within a completion. Advantage: how much better than its group.",
    "findings": "What the figures of this job say about it, in words: the most serious first.",
    "events": "What happened to the job, newest first.",
}
"""Panel → what it shows, in plain words."""

"""The key figures of a job in a row of tiles."""

from __future__ import annotations

from services.api.ui.html import Markup, progress_bar, safe
from services.api.ui.job_reading import JobLook
from services.api.ui.panels.curves import tokens_per_second
from services.api.ui.words import NOTHING, count, number, seconds, share
from services.job.guard import LOW_IS_BAD, GuardFigure


def tiles(look: JobLook) -> str:
    """All tiles."""
    series, spec = look.series, look.record.spec
    done, wanted = look.progress.next_step, spec.learner.steps
    rate = tokens_per_second(look)
    evaluated = [record.reward_mean for record in look.evaluations if record.reward_mean is not None]
    evaluation = f"evaluation {number(evaluated[-1])}" if evaluated else "not evaluated yet"
    step_seconds = series.newest("seconds")
    shown = [
        _tile("Step", f"{count(done)} / {count(wanted)}", progress_bar(done / wanted, f"{done} of {wanted} steps")),
        _tile("Reward", number(series.newest("reward")), evaluation),
        _limited(look, "ess_sequence", "ESS, sequences", series.newest("ess_sequence"), "1: all weigh the same"),
        _limited(look, "kl_k3", "KL k3", series.newest("kl_k3"), _drift_share(look)),
        _limited(look, "outside_band_ratio", "Outside 0.9–1.1", series.newest("outside_band"), "of tokens", cent=True),
        _tile("Staleness", number(series.newest("staleness_max")), f"oldest; limit {spec.learner.max_staleness}"),
        _tile(
            "Throughput",
            f"{number(float(rate[-1]))} tok/s" if len(rate) and rate[-1] == rate[-1] else NOTHING,
            f"{seconds(step_seconds)} per step" if step_seconds is not None else "no step yet",
        ),
        _tile("Weights", f"v{look.progress.policy_version}", look.progress.phase.replace("_", " ") or "no learner yet"),
    ]
    return f'<div class="tiles">{"".join(shown)}</div>'


def _drift_share(look: JobLook) -> str:
    part = look.series.newest("drift_share")
    return "mismatch not measured yet" if part is None else f"{share(part)} of it is drift"


def _limited(
    look: JobLook, figure: GuardFigure, name: str, value: float | None, text: str, *, cent: bool = False
) -> Markup:
    """A figure that the guard has a limit for."""
    guard = look.record.spec.guard
    limit = guard.limits().get(figure) if guard.actions else None
    beyond = value is not None and limit is not None
    if beyond and value is not None and limit is not None:
        beyond = value < limit.enter if figure in LOW_IS_BAD else value > limit.enter
    if beyond and limit is not None:
        text = f"beyond the guard's {number(limit.enter)}"
    return _tile(
        name,
        share(value) if cent else number(value, 4 if figure == "ess_sequence" else 3),
        text,
        "warn" if beyond else "",
    )


def _tile(name: str, value: str, note: str | Markup, look: str = "") -> Markup:
    return Markup(
        f'<div class="tile {look}" data-tile="{safe(name)}"><div class="name">{safe(name)}</div>'
        f'<div class="value">{safe(value)}</div><div class="note">{safe(note)}</div></div>'
    )

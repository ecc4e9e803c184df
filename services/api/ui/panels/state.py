"""The panels of a job's state as HTML: workers, queues, ledger, guard, events, what it says of itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.api.ui.html import LEVEL_LOOKS, STATE_LOOKS, Markup, empty, mark, note, safe, table
from services.api.ui.job_reading import JobLook
from services.api.ui.words import NOTHING, clock, count, number, seconds, since, size
from services.drift.findings import Finding
from services.job.guard import LOW_IS_BAD, GuardFigure
from services.records.step import GuardView
from services.store.job.events import Event
from services.store.job.transitions import WAITS_FOR

LATE_HEARTBEAT_SECONDS = 30.0
GUARDED: dict[GuardFigure, str] = {
    "ess_token": "ESS of tokens",
    "ess_sequence": "ESS of sequences",
    "outside_band_ratio": "share of tokens outside 0.9–1.1",
    "kl_k3": "KL k3",
    "mismatch_kl_k3": "KL k3 of engine mismatch",
    "reward_share": "reward, as a share of its best",
}
SEVERITY_LOOKS = {"info": "", "warn": "warn", "error": "bad"}


def waiting(look: JobLook) -> str:
    """What a job without steps waits for, as a sentence."""
    wait = look.record.waiting_for
    if wait is not None:
        return f"No step yet: waiting for {wait.what}, since {since(wait.since)}"
    first = WAITS_FOR[look.record.status]
    return f"No step yet: waiting for {first.words}" if first else f"The job {look.record.status.value} without a step"


def heading(look: JobLook) -> str:
    """Under the job's name: what it waits for, or why it failed."""
    record, boxes = look.record, []
    if record.error is not None:
        where = f" ({record.error.param})" if record.error.param else ""
        boxes.append(note(record.error.code.replace("_", " ") + where, record.error.message, "bad"))
    if record.waiting_for is not None:
        text = f"Waiting for <b>{safe(record.waiting_for.what)}</b> since {safe(since(record.waiting_for.since))}"
        boxes.append(Markup(f'<p class="muted">{text}</p>'))
    elif record.finished_at is not None:
        took = seconds(record.finished_at - record.created_at)
        boxes.append(Markup(f'<p class="muted">Ended {safe(clock(record.finished_at))}, after {safe(took)}</p>'))
    return "".join(boxes)


def workers(look: JobLook) -> str:
    """A row each."""
    if not look.workers:
        return empty("No workers: the controller starts them when the job runs")
    now = time.time()
    rows = []
    for worker in look.workers:
        age = max(0.0, now - worker.heartbeat)
        late = mark(f"{seconds(age)} ago", "bad") if age > LATE_HEARTBEAT_SECONDS else f"{seconds(age)} ago"
        version = f"v{worker.policy_version}" if worker.policy_version else NOTHING
        name = Markup(f"<code>{safe(worker.id)}</code>")
        rows.append(
            [name, worker.kind, mark(worker.state, STATE_LOOKS.get(worker.state, "")), version, late, worker.node]
        )
    return table(["worker", "kind", "state", "weights", "heartbeat", "node"], rows)


def queues(look: JobLook) -> str:
    """A row for each stream."""
    rows = [
        [name.replace("_", " "), count(stats.entries), count(stats.pending), size(stats.bytes),
         seconds(stats.oldest_seconds) if stats.entries else NOTHING]
        for name, stats in look.streams.items()
    ]  # fmt: skip
    return table(["stream", "groups", "held by workers", "size", "oldest"], rows, numbers=(1, 2, 3, 4))


def ledger(look: JobLook) -> str:
    """Counts of groups, and of tokens that were sampled in vain."""
    counts = look.ledger
    rows: list[tuple[str, str]] = [("issued", count(counts.issued)), ("trained", count(counts.trained))]
    rows += [(f"dropped: {reason.replace('_', ' ')}", count(dropped)) for reason, dropped in counts.dropped.items()]
    rows += [("in flight", count(counts.in_flight))]
    missing = len(counts.missing)
    rows += [("missing", mark(count(missing), "bad") if missing else "0")]
    wasted = look.tallies.wasted_tokens
    rows += [(f"tokens wasted: {reason.replace('_', ' ')}", count(tokens)) for reason, tokens in wasted.items()]
    letters = sum(look.tallies.dead_letters.values())
    rows += [("dead letters", count(letters))] if letters else []
    state = mark("balanced", "good") if counts.balanced else mark("not balanced at this moment", "warn")
    return f"<div>{state}</div>{table(['groups', 'count'], rows, numbers=(1,))}"


def guard(look: JobLook) -> str:
    """Its level, what it did last, its limits."""
    spec, said = look.record.spec.guard, look.latest.guard if look.latest else GuardView()
    if not spec.actions:
        return empty("This job has no guard: its list of actions is empty")
    alarm = mark(f"level {said.level}: alarm", "warn")
    state = mark("level 0: all is well", "good") if said.level == 0 else alarm
    parts = [f'<div class="line">{state}{_ladder(spec.actions, said.level)}</div>']
    if said.actions:
        parts.append(note("Last step", f"action: {', '.join(said.actions)}", "warn"))
    parts += [f'<p class="small">{safe(reason)}</p>' for reason in said.reasons]
    if said.learning_rate_factor < 1:
        factor = number(said.learning_rate_factor)
        parts.append(f'<p class="small">The learning rate is at {factor} of what the job asked for.</p>')
    limits = [
        [GUARDED[name], f"{'<' if name in LOW_IS_BAD else '>'} {number(limit.enter)}", number(limit.leave)]
        for name, limit in spec.limits().items()
    ]
    parts.append(table(["figure", "alarm from", "over at"], limits, numbers=(1, 2)))
    return "".join(parts)


def _ladder(actions: Sequence[str], level: int) -> Markup:
    steps = [f"<b>{safe(action)}</b>" if rung < level else str(safe(action)) for rung, action in enumerate(actions)]
    return Markup(f'<span class="muted">ladder: {" → ".join(steps)}</span>'.replace("_", " "))


def findings(found: Sequence[Finding]) -> str:
    """What the figures say."""
    if not found:
        return empty("Nothing stands out in the figures so far")
    return "".join(note(finding.title, finding.text, SEVERITY_LOOKS.get(finding.severity, "")) for finding in found)


def events(shown: Sequence[Event], *, short: bool = False) -> str:
    """Newest first."""
    if not shown:
        return empty("No event yet")
    rows = "".join(
        f'<div class="event"><time title="{safe(clock(event.created_at))}">{safe(_at(event.created_at))}</time>'
        f'{mark(event.level, LEVEL_LOOKS[event.level])}<span class="text">{safe(event.message)}</span></div>'
        for event in shown
    )
    return f'<div class="events {"short" if short else ""}" tabindex="0">{rows}</div>'


def _at(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(moment))


def evaluations(look: JobLook) -> str:
    """A row each, newest first."""
    if not look.evaluations:
        why = "no evaluation yet" if look.record.spec.evaluation else "the job has no validation file"
        return empty(f"Nothing to show: {why}")
    rows = [
        [record.step, number(record.reward_mean), record.graded, record.failed, record.missing, seconds(record.seconds)]
        for record in reversed(look.evaluations[-50:])
    ]  # fmt: skip
    heads = ["after step", "reward", "graded", "failed", "missing", "took"]
    return table(heads, rows, numbers=range(len(heads)))


def checkpoints(look: JobLook) -> str:
    """A row each, newest first."""
    if not look.checkpoints:
        return empty(f"No checkpoint yet: one is written every {look.record.spec.learner.checkpoint_every} steps")
    rows = [
        [record.step, number(record.train_mean_reward), clock(record.created_at)]
        for record in reversed(look.checkpoints)
    ]
    return table(["steps", "reward", "written"], rows, numbers=(0, 1))

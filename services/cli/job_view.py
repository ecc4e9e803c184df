"""A job's view (`GET /v1/x/jobs/{id}`) as a table for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from services.api.schemas.job_view import JobView, LedgerView
from services.records.drift import DriftFigures
from services.records.worker import WORKER_KINDS, WorkerKind

STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def details(view: JobView) -> Table:
    """Two columns: what, and how it stands. Text from the service is shown as it is, never read as markup."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _rows(view):
        table.add_row(Text(name, style="bold"), value if isinstance(value, Text) else Text(value))
    return table


def _rows(view: JobView) -> Iterator[tuple[str, str | Text]]:
    yield "job", view.id
    yield "status", Text(view.status.value, style=STYLES.get(view.status.value, ""))
    yield "stage", view.stage
    if view.waiting_for:
        seconds = max(0, time.time() - view.waiting_for.since)
        yield "waits for", f"{view.waiting_for.what} (since {seconds:.0f} s)"
    if view.error:
        yield "error", Text(f"{view.error.code}: {view.error.message}", style="red")
    yield "step", f"{view.step} of {view.spec.learner.steps}, policy version {view.policy_version}"
    yield "groups", _ledger(view.ledger)
    for kind in WORKER_KINDS:
        yield f"{kind} workers", _workers(kind, view)
    if view.drift:
        yield "drift", _drift(view.drift)


def _drift(drift: DriftFigures) -> str:
    shown = {
        "ratio_mean": drift.ratio_mean,
        "kl_k3": drift.kl_k3,
        "ess_token": drift.ess_token,
        "outside_band_ratio": drift.outside_band_ratio,
        "drift_share": drift.drift_share,
    }
    return "  ".join(f"{name} {value:.4g}" for name, value in shown.items() if value is not None)


def _ledger(ledger: LedgerView) -> str:
    dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(ledger.dropped.items()))
    counts = f"{ledger.issued} issued, {ledger.trained} trained, {ledger.in_flight} in flight"
    return f"{counts}, dropped: {dropped or 'none'}"


def _workers(kind: WorkerKind, view: JobView) -> str:
    workers = [worker for worker in view.workers if worker.kind == kind]
    states = ", ".join(f"{worker.id} {worker.state} v{worker.policy_version}" for worker in workers)
    wanted = {"rollout": view.desired.rollout_workers, "reward": view.desired.reward_workers}.get(kind)
    return (states or "none") + (f" (wanted: {wanted})" if wanted is not None else "")

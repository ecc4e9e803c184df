"""A job's view (`GET /v1/x/jobs/{id}`) as a table for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from services.records.worker import WORKER_KINDS

STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}
DRIFT_FIGURES = ("ratio_mean", "kl_k3", "ess_token", "outside_band_ratio", "drift_share")


def details(view: dict[str, Any]) -> Table:
    """Two columns: what, and how it stands. Text from the service is shown as it is, never read as markup."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _rows(view):
        table.add_row(Text(name, style="bold"), value if isinstance(value, Text) else Text(value))
    return table


def _rows(view: dict[str, Any]) -> Iterator[tuple[str, str | Text]]:
    yield "job", view["id"]
    yield "status", Text(view["status"], style=STYLES.get(view["status"], ""))
    yield "stage", view["stage"]
    if view["waiting_for"]:
        seconds = max(0, time.time() - view["waiting_for"]["since"])
        yield "waits for", f"{view['waiting_for']['what']} (since {seconds:.0f} s)"
    if view["error"]:
        yield "error", Text(f"{view['error']['code']}: {view['error']['message']}", style="red")
    yield "step", f"{view['step']} of {view['spec']['learner']['steps']}, policy version {view['policy_version']}"
    yield "groups", _ledger(view["ledger"])
    for kind in WORKER_KINDS:
        yield f"{kind} workers", _workers(kind, view)
    if view["drift"]:
        shown = ((name, view["drift"].get(name)) for name in DRIFT_FIGURES)
        yield "drift", "  ".join(f"{name} {value:.4g}" for name, value in shown if value is not None)


def _ledger(ledger: dict[str, Any]) -> str:
    dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(ledger["dropped"].items()))
    counts = f"{ledger['issued']} issued, {ledger['trained']} trained, {ledger['in_flight']} in flight"
    return f"{counts}, dropped: {dropped or 'none'}"


def _workers(kind: str, view: dict[str, Any]) -> str:
    workers = [worker for worker in view["workers"] if worker["kind"] == kind]
    states = ", ".join(f"{worker['id']} {worker['state']} v{worker['policy_version']}" for worker in workers)
    wanted = view["desired"].get(f"{kind}_workers")
    return (states or "none") + (f" (wanted: {wanted})" if wanted is not None else "")

"""`sspo replay`: one journaled step again, and what differs."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from services.disk.layout import Layout, UnknownModel
from services.observability import logs

SHA256_DIGITS = 64


def run(data: Path, job_id: str, step: int, from_checkpoint: int | None) -> None:
    """Replay and print; exits with 0 when everything is the same to the bit, with 1 otherwise."""
    from services.learner.errors import FATAL
    from services.learner.model.local import open_backend
    from services.learner.recovery.replay import CannotReplay, replay

    try:
        with logs.warnings_only():
            found = replay(Layout(data.resolve()), job_id, step, open_backend, from_checkpoint=from_checkpoint)
    except (CannotReplay, *FATAL, UnknownModel) as error:
        typer.echo(f"sspo replay: {error}", err=True)
        raise typer.Exit(1) from error
    console = Console(width=None if Console().is_terminal else 160)
    begun = f"checkpoint {found.start}" if found.start else "the base model"
    console.print(f"Step {step} of {job_id}: record {found.header.sequence}, replayed from {begun}")
    table = Table("field", "journaled", "replayed", "equal")
    for row in found.rows:
        table.add_row(row.name, _text(row.journaled), _text(row.replayed), "yes" if row.equal else "[red]no[/red]")
    for row in found.environment:
        table.add_row(f"({row.name})", _text(row.journaled), _text(row.replayed), "-")
    console.print(table)
    if found.equal:
        console.print("Bit for bit the same.")
        return
    console.print(_verdict(len(found.rows), len(found.environment)))
    raise typer.Exit(1)


def _verdict(rows: int, environment: int) -> str:
    if not rows:
        return "Nothing was recorded of this step to compare with."
    if environment:
        return "It differs. The step was trained in another environment (in brackets), which may explain it."
    return "It differs, in the same environment: the model folder, the journal or what was recorded has changed."


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) != SHA256_DIGITS else f"{text[:16]}…"

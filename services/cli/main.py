"""The `sspo` command. Heavy imports happen inside the commands, so that `sspo --help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli import job

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Train language models by reinforcement.")
app.add_typer(job.app, name="job")

Data = Annotated[Path, typer.Option(help="The data folder.")]


@app.command()
def up(
    data: Data,
    host: Annotated[str, typer.Option(help="Address the API listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the API; 0 takes a free one.", min=0, max=65535)] = 8000,
) -> None:
    """Run the whole service on this machine until Ctrl-C or SIGTERM."""
    from services.cli.up.command import run

    run(data, host, port)


@app.command()
def demo(
    data: Data,
    steps: Annotated[int | None, typer.Option(help="Training steps; the demo's own number by default.", min=1)] = None,
    prepare_only: Annotated[bool, typer.Option("--prepare-only", help="Only make the model and its files.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
) -> None:
    """Train a small model end to end on this machine and show what happened."""
    from services.cli.demo.command import run

    run(data, steps, prepare_only, seed)


if __name__ == "__main__":
    app()

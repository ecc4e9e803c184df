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


@app.command()
def migrate(data: Annotated[Path, typer.Argument(help="The data folder; nothing may run on it.")]) -> None:
    """Bring an older data folder up to date. `sspo up` does it by itself; a cluster needs this."""
    from services.cli.up.command import migrate as run

    run(data)


@app.command()
def backup(
    data: Annotated[Path, typer.Argument(help="The data folder; a service may run on it.")],
    target: Annotated[Path, typer.Argument(help="Where the copy goes; must not exist.")],
) -> None:
    """Copy a data folder so that a service can start from the copy."""
    from services.cli.backup import run

    run(data, target)


@app.command()
def replay(
    data: Annotated[Path, typer.Argument(help="The data folder, or a copy of it.")],
    job_id: Annotated[str, typer.Argument(help="The job.")],
    step: Annotated[int, typer.Argument(help="The step to train again.", min=0)],
    from_checkpoint: Annotated[
        int | None, typer.Option(help="Checkpoint to begin from; 0 is the base model. The newest by default.", min=0)
    ] = None,
) -> None:
    """Train a journaled step once more from files alone, and compare it bit for bit with what was recorded."""
    from services.cli.replay import run

    run(data, job_id, step, from_checkpoint)


if __name__ == "__main__":
    app()

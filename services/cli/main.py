"""The `sspo` command. Heavy imports happen inside the commands, so that `sspo --help` is quick."""

from __future__ import annotations

import typer

from services.cli import job

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Train language models by reinforcement.")
app.add_typer(job.app, name="job")

if __name__ == "__main__":
    app()

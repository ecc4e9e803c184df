"""`sspo backup`: a copy of a data folder that a service can start from, also while one runs on the folder.

Order matters. Redis comes first. If its copy is older than the journal's, the next learner tells Redis what it missed.
If it is newer, it knows of records that the copied journal lacks, and the learner refuses to start. Checkpoints come
before journals, since a journal has to reach beyond every checkpoint. Weights are not copied: learners publish them
anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import typer

from services.disk.layout import Layout

WHOLE = ("files", "models")


class BackupExists(RuntimeError):
    """The target is there already."""


def run(data: Path, target: Path) -> None:
    """Copy and say so."""
    try:
        backup(Layout(data.resolve()), target.resolve())
    except (BackupExists, OSError) as error:
        typer.echo(f"sspo backup: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{target} is a copy of {data}: start it with `sspo up --data {target}`")


def backup(layout: Layout, target: Path) -> None:
    """Copy the folder to `target`, which must not exist. Raises BackupExists, OSError."""
    if target.exists():
        raise BackupExists(f"{target} exists: name a new folder")
    target.mkdir(parents=True, mode=0o700)
    to = Layout(target)
    _copy(layout.redis, to.redis)
    jobs = sorted(path.name for path in layout.jobs.glob("*"))
    for name in jobs:
        source, copy = layout.job(name), to.job(name)
        _copy(source.checkpoints, copy.checkpoints)
        _copy(source.journal, copy.journal)
        _copy(source.export, copy.export)
        for path in ("spec", "steps", "samples", "gate"):
            _copy(getattr(source, path), getattr(copy, path))
    for name in (*WHOLE, layout.api_key.name, layout.version.name):
        _copy(layout.root / name, target / name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder; what is being written or vanishes meanwhile is left out: its hash or its name tells."""
    if source.name.startswith("."):
        return
    try:
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(source.iterdir()):
                _copy(path, target / path.name)
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    except FileNotFoundError:
        return

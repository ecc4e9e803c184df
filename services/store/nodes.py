"""Ray's nodes, for Prometheus to scrape. Only the controller in charge writes them."""

from __future__ import annotations

from typing import Any

from services.store import answers, keys
from services.store.client import Client


class Nodes:
    """Writes and reads the nodes that live now."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, nodes: dict[Any, Any]) -> None:
        """Replace all: HOST:PORT of a node's page of metrics -> the node's name."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.delete(keys.NODES)
        if nodes:
            pipeline.hset(keys.NODES, mapping=nodes)
        pipeline.execute()

    def list(self) -> dict[str, str]:
        """HOST:PORT -> name."""
        stored: Any = self._client.hgetall(keys.NODES)
        return answers.fields(stored)

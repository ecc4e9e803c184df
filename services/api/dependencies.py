"""The tools of routes: one `Service` per app, which holds the store."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.settings.processes import ApiSettings
from services.store.client import Client, connect
from services.store.files import Files
from services.store.job.creations import Creations
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.operations import Operations
from services.store.job.registry import Registry
from services.store.job.steps import Checkpoints, Evaluations, Steps
from services.store.nodes import Nodes
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from services.trajectories.tallies import Tallies

REDIS_PATIENCE_SECONDS = 3.0
"""How long a request waits for a Redis that is away, before its 503: a client may try again itself."""


@dataclass(frozen=True)
class Service:
    """The store as the API uses it. Routes are plain functions, which FastAPI runs in threads: the store is
    synchronous."""

    settings: ApiSettings
    client: Client
    jobs: Jobs
    files: Files
    events: Events
    steps: Steps
    evaluations: Evaluations
    checkpoints: Checkpoints
    registry: Registry
    nodes: Nodes
    operations: Operations
    creations: Creations
    ledger: Ledger
    progress: Progress
    dead_letters: DeadLetters
    tallies: Tallies
    grader_slots: threading.BoundedSemaphore

    @classmethod
    def open(cls, settings: ApiSettings) -> Service:
        """Everything over one client. Does not touch the network."""
        client = connect(settings.redis_url, patience_seconds=REDIS_PATIENCE_SECONDS)
        return cls(
            settings=settings,
            client=client,
            jobs=Jobs(client),
            files=Files(client, settings.layout),
            events=Events(client),
            steps=Steps(client, settings.layout),
            evaluations=Evaluations(client),
            checkpoints=Checkpoints(client),
            registry=Registry(client),
            nodes=Nodes(client),
            operations=Operations(client),
            creations=Creations(client),
            ledger=Ledger(client),
            progress=Progress(client),
            dead_letters=DeadLetters(client),
            tallies=Tallies(client),
            grader_slots=threading.BoundedSemaphore(settings.grader_requests_at_once),
        )


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Svc = Annotated[Service, Depends(_service)]

"""One look at one job. The status says which phase has its turn.

`tick` compares the record with the actors and acts; it never blocks for long and may be called at any moment by any
controller, since all state is in Redis, on disk and in the named actors.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from services.controller.issuing.supply import Supply
from services.controller.job.finishing import Finishing
from services.controller.job.running import Running
from services.controller.job.standing import Standing
from services.controller.job.starting import Starting
from services.controller.job.stopping import Stopping
from services.controller.workers.crew import Crew
from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.store.client import Client
from services.store.job.record import JobRecord
from services.store.job.transitions import Status
from services.trajectories.progress import Progress


class JobReconciler:
    """Everything the controller does for one job."""

    def __init__(
        self,
        record: JobRecord,
        client: Client,
        layout: Layout,
        pool: ThreadPoolExecutor,
        crew_of: Callable[[JobSpec, Client], Crew] = Crew,
    ) -> None:
        spec = record.spec
        self._progress = Progress(client)
        self._crew = crew = crew_of(spec, client)
        self._standing = standing = Standing(client, spec)
        supply = Supply(spec, client, layout, pool)
        self._starting = Starting(spec, client, layout, pool, standing)
        self._running = Running(client, crew, supply, standing)
        self._finishing = Finishing(client, layout, crew, supply, standing)
        self._stopping = Stopping(client, layout, crew, supply, standing)

    def tick(self, record: JobRecord, may_start: bool) -> None:
        """One look at the job. `may_start`: there is room for another running job."""
        match record.status:
            case Status.VALIDATING_FILES:
                self._starting.validate()
            case Status.QUEUED:
                self._starting.queue(record, may_start)
            case Status.RUNNING:
                self._run(record)
            case Status.PAUSING:
                self._stopping.pause(record)
            case Status.PAUSED:
                self._stopping.stay_paused(record)
            case _:
                self._stopping.clean_up(record)

    def _run(self, record: JobRecord) -> None:
        lost = self._crew.mourn() or self._crew.replace_silent()
        if lost is not None:
            self._standing.fail(lost)
            return
        progress = self._progress.read(record.id)
        if progress.phase == "finished":
            self._finishing.look(record, progress)
        else:
            self._running.look(record, progress)

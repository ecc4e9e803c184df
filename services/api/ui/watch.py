"""Looks at something again and again while somebody watches, and shows each look to every watcher.

Invariants: a job is read once for all the pages that show it, and not at all while nobody watches. Threads do the
reading, so the event loop never waits for the store.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import structlog

from services.api.dependencies import Service
from services.api.ui.job_reading import JobLook, JobReading, JobsLook, JobsReading
from services.store.client import StoreError
from services.store.job.jobs import JobNotFound

log = structlog.get_logger()

RETRY_SECONDS = 3.0
KEPT_JOBS = 16
"""Jobs whose steps stay in memory when nobody watches them any more."""


class Look(Protocol):
    """What a watch shows."""

    @property
    def pause_seconds(self) -> float: ...


T = TypeVar("T", bound=Look)
Listener = Callable[[T | None], None]
"""Gets each look; None when the store could not be read."""


class Watch(Generic[T]):
    """Shows the looks of `read` to its listeners. All methods are called in the event loop."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._listeners: list[Listener[T]] = []
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.look: T | None = None
        """The newest, however old."""

    @property
    def is_watched(self) -> bool:
        return bool(self._listeners)

    def join(self, listener: Listener[T]) -> None:
        """Have `listener` called with each look, from now on; twice is once."""
        if listener not in self._listeners:
            self._listeners.append(listener)
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def leave(self, listener: Listener[T]) -> None:
        """No more looks for `listener`."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners:
            self._wake.set()

    def hurry(self) -> None:
        """Look again now: something was changed."""
        self._wake.set()

    async def _run(self) -> None:
        while self._listeners:
            self._wake.clear()
            try:
                look: T | None = await asyncio.to_thread(self._read)
            except (StoreError, JobNotFound, OSError, ValueError) as error:
                log.warning("dashboard_can_not_read", reason=str(error))
                look = None
            except Exception:  # the boundary of whatever a record may hold: pages say that nothing new comes
                log.exception("dashboard_can_not_read")
                look = None
            self.look = look or self.look
            for listener in tuple(self._listeners):
                listener(look)
            try:
                await asyncio.wait_for(self._wake.wait(), look.pause_seconds if look else RETRY_SECONDS)
            except TimeoutError:
                continue


class Following:
    """The watches of one page: joined while it is connected and to be seen."""

    def __init__(self) -> None:
        self._watches: dict[Listener[Any], Watch[Any]] = {}
        self._joined = False

    def add(self, watch: Watch[T], listener: Listener[T]) -> Callable[[], None]:
        """Let `listener` have the looks of `watch`. Answers how to end it."""
        self._watches[listener] = watch
        if self._joined:
            watch.join(listener)

        def end() -> None:
            del self._watches[listener]
            watch.leave(listener)

        return end

    def join(self) -> None:
        """The page is there."""
        self._joined = True
        for listener, watch in self._watches.items():
            watch.join(listener)

    def leave(self) -> None:
        """It is away, or hidden."""
        self._joined = False
        for listener, watch in self._watches.items():
            watch.leave(listener)


class Watches:
    """The watches of one service: its jobs, and each job."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: OrderedDict[str, Watch[JobLook]] = OrderedDict()
        self.list: Watch[JobsLook] = Watch(JobsReading(service).look)

    def job(self, job_id: str) -> Watch[JobLook]:
        """The watch of a job that exists."""
        watch = self._jobs.get(job_id)
        if watch is None:
            watch = self._jobs[job_id] = Watch(JobReading(self._service, job_id).look)
        self._jobs.move_to_end(job_id)
        for name in [name for name, other in self._jobs.items() if not other.is_watched][:-KEPT_JOBS]:
            del self._jobs[name]
        return watch

"""Step records for other tools: TensorBoard's event files, and a run at Weights & Biases.

Each sink has a thread and a bounded queue of its own: a sink that hangs, fails or isn't installed costs the job only
its own curves, and one event tells of it. Only the sink's thread imports its library. Our own step records
(`steps.jsonl`) are complete even if every sink fails.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import structlog

from services.disk.layout import JobFolder
from services.job.spec import JobSpec
from services.learner.reports.tensorboard_sink import TensorBoardSink
from services.learner.reports.wandb_sink import WandbSink
from services.records.record import numbers
from services.records.step import StepRecord

log = structlog.get_logger()

QUEUED_RECORDS = 256
CLOSING_SECONDS = 15.0
"""How long a learner that ends lets its sinks write what they still have."""

Figures = dict[str, float]


class Sink(Protocol):
    """Writes figures somewhere; its own thread alone calls it."""

    def write(self, step: int, figures: Figures) -> None:
        """Figures of one step, which is the one after the last, or below it after a rollback or a restart."""

    def close(self) -> None:
        """Write out what is left."""


class Sinks:
    """All sinks of one job. `warn` is told, from a sink's thread, of one that is given up."""

    def __init__(self, spec: JobSpec, folder: JobFolder, warn: Callable[[str], None]) -> None:
        opened = _makers(spec, folder)
        self._pumps = [_Pump(name, make, warn) for name, make in opened.items()]

    def put(self, record: StepRecord) -> None:
        """Hand on a step record; never waits, never raises."""
        if self._pumps:
            figures = dict(figures_of(record))
            for pump in self._pumps:
                pump.put((record.step, figures))

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Let the sinks end; a sink that takes longer is left behind."""
        deadline = time.monotonic() + seconds
        for pump in self._pumps:
            pump.put(None)
        for pump in self._pumps:
            pump.join(max(0.0, deadline - time.monotonic()))


def figures_of(record: StepRecord) -> Iterator[tuple[str, float]]:
    """The numbers of a step record as (name, value), "/" between its parts; of buckets k3 alone."""
    drift = record.drift.model_copy(update={"buckets": {}, "by_staleness": {}})
    for path, value in numbers(record.model_copy(update={"drift": drift})):
        if value is not None and path not in ("step", "time"):
            yield (path if path.startswith("drift.") else f"job.{path}").replace(".", "/"), float(value)
    for staleness, update, figures in record.drift.by_bucket():
        if figures.kl_k3 is not None:
            yield f"buckets/{staleness}-{update}/kl_k3", figures.kl_k3


def _makers(spec: JobSpec, folder: JobFolder) -> dict[str, Callable[[], Sink]]:
    wanted: dict[str, Callable[[], Sink]] = {}
    if spec.sinks.tensorboard:
        wanted["TensorBoard"] = lambda: TensorBoardSink(folder.tensorboard)
    if (asked := spec.wandb) is not None:
        wanted["Weights & Biases"] = lambda: WandbSink(asked, spec, folder.wandb)
    return wanted


class _Pump:
    """The thread of one sink."""

    def __init__(self, name: str, make: Callable[[], Sink], warn: Callable[[str], None]) -> None:
        self._name, self._make, self._warn = name, make, warn
        self._queue: queue.Queue[tuple[int, Figures] | None] = queue.Queue(QUEUED_RECORDS)
        self._given_up = False
        self._thread: threading.Thread | None = None

    def put(self, item: tuple[int, Figures] | None) -> None:
        if self._given_up or (self._thread is None and item is None):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name=f"sink {self._name}")
            self._thread.start()
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._give_up(f"it is {QUEUED_RECORDS} records behind")

    def join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:
            log.warning("sink_failed", sink=self._name, exc_info=error)
            self._give_up(f"{type(error).__name__}: {error}")

    def _write(self) -> None:
        sink: Sink | None = None
        while (item := self._queue.get()) is not None and not self._given_up:
            sink = sink or self._make()
            sink.write(*item)
        if sink is not None:
            sink.close()

    def _give_up(self, why: str) -> None:
        if not self._given_up:
            self._given_up = True
            self._warn(f"{self._name} gets no more figures of this job: {why}")

"""Starts the parts, keeps them running, stops them.

A part that dies is restarted after a pause that grows, together with the parts that can't go on with its successor. At
the end every descendant is ended, so no process of the run is left.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
import structlog

from services.cli.up.parts import Part
from services.cli.up.processes import descendants, end, reap, write_record
from services.cli.up.shared_memory import Segment, collect, held_by

log = structlog.get_logger()

START_SECONDS = 90.0
RECORD_EVERY_SECONDS = 2.0
SHARED_MEMORY_EVERY_SECONDS = 10.0
"""Looking through every process' memory maps takes some tens of milliseconds."""
LONGEST_PAUSE_SECONDS = 15.0
STEADY_SECONDS = 10.0
"""A part that lived so long is restarted quickly again."""
STOP_SECONDS = 10.0


class PartDidNotStart(RuntimeError):
    """A part ended or did not become ready in time; its log says why."""


class Supervisor:
    """The children of one `sspo up`."""

    def __init__(self, parts: Sequence[Part], logs: Path, state: Path, url: str) -> None:
        self._parts = list(parts)
        self._logs = logs
        self._state = state
        self._url = url
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._deaths: dict[str, int] = {}
        self._started_at: dict[str, float] = {}
        self._start_at: dict[str, float] = {}
        self._recorded = 0.0
        self._looked = float("-inf")
        self._segments: set[Segment] = set()

    def start(self, stopping: Callable[[], bool]) -> None:
        """Start all parts in order, each once the one before is ready; stops early. Raises PartDidNotStart."""
        for part in self._parts:
            if stopping():
                return
            self._spawn(part)
            self._await(part, stopping)
        self.record()

    def watch(self) -> None:
        """One look: restart what died."""
        for part in self._parts:
            child = self._children.get(part.name)
            if child is not None and child.poll() is not None:
                self._died(part, child.returncode)
            elif child is None and time.monotonic() >= self._start_at[part.name]:
                self._spawn(part)
        reap(child.pid for child in self._children.values())
        if time.monotonic() - self._recorded > RECORD_EVERY_SECONDS:
            self.record()

    def record(self) -> None:
        """Write down which processes and which shared memory are ours. After a crash the next run cleans up by it."""
        now = self._recorded = time.monotonic()
        family = descendants()
        if now - self._looked > SHARED_MEMORY_EVERY_SECONDS:
            self._looked = now
            held = held_by(family)
            collect(self._segments - held)  # of workers that were killed
            self._segments = held
        self._write(family)

    def stop(self) -> None:
        """End the parts in reverse order, then every descendant that is left."""
        for part in reversed(self._parts):
            child = self._children.pop(part.name, None)
            if child is not None and child.poll() is None:
                family = descendants(child.pid)
                child.terminate()
                try:
                    child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                end(family, patience_seconds=2.0)
        end(descendants(), patience_seconds=2.0)
        reap(())
        collect(self._segments)
        self._segments = set()
        self._write(descendants())

    def _write(self, family: list[psutil.Process]) -> None:
        segments = [asdict(segment) for segment in sorted(self._segments)]
        write_record(self._state, family, url=self._url, shared_memory=segments)

    def _spawn(self, part: Part) -> None:
        with open(self._logs / f"{part.name}.log", "ab") as output:
            self._children[part.name] = subprocess.Popen(
                part.command,
                env=part.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, in order
            )
        self._started_at[part.name] = time.monotonic()
        log.info("part_started", part=part.name, pid=self._children[part.name].pid)
        self.record()

    def _await(self, part: Part, stopping: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not stopping():
            if self._children[part.name].poll() is not None or time.monotonic() > deadline:
                raise PartDidNotStart(f"{part.name} did not start; see {self._logs / part.name}.log")
            if part.ready():
                return
            time.sleep(0.05)

    def _died(self, part: Part, code: int) -> None:
        if time.monotonic() - self._started_at[part.name] > STEADY_SECONDS:
            self._deaths[part.name] = 0
        deaths = self._deaths[part.name] = self._deaths.get(part.name, 0) + 1
        pause = min(LONGEST_PAUSE_SECONDS, 0.25 * 2 ** (deaths - 1))
        log.warning("part_died", part=part.name, code=code, restart_in_seconds=pause)
        del self._children[part.name]
        self._start_at[part.name] = time.monotonic() + pause
        for name in part.restart_with:
            other = self._children.get(name)
            if other is not None:
                other.terminate()

"""The processes of a running service, by kind; and whether any outlives it.

A process belongs to the service when it descends from `sspo up`, which adopts what its children leave orphaned, or when
its environment carries this run's mark. Some clear their environment and others write their title over it, so whoever
was once seen in the family is remembered, by pid and start time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

import psutil

from tests.chaos.plan import Victim

MARK = "SSPO_CHAOS_RUN"
WATCH_SECONDS = 0.5
_MODULES = {
    "services.controller": Victim.CONTROLLER,
    "services.api": Victim.API,
    "services.reward": Victim.GRADER,
}
ACTORS = {
    Victim.ROLLOUT: "ray::RolloutProcess",
    Victim.REWARD: "ray::RewardProcess",
    Victim.LEARNER: "ray::LearnerProcess",
}
"""How the title of an actor's process begins: Ray writes the name of its class there."""
_TITLES = {**{title: kind for kind, title in ACTORS.items()}, "VLLM::EngineCore": Victim.ENGINE}
RAY_PARTS = ("gcs_server", "raylet", "ray start")


def kind_of(command: list[str]) -> Victim | None:
    """Which kind of process has this command line; None for helpers of others."""
    if not command:
        return None
    if command[1:2] == ["-m"] and len(command) == 3:
        return _MODULES.get(command[2])
    if "redis-server" in command[0]:
        return Victim.REDIS
    if ray_part(command):
        return Victim.RAY
    return next((kind for title, kind in _TITLES.items() if command[0].startswith(title)), None)


def ray_part(command: list[str]) -> str:
    """Which process of the Ray head this is; "" for none."""
    program = command[0].rsplit("/", 1)[-1] if command else ""
    if program in ("gcs_server", "raylet"):
        return program
    return "ray start" if len(command) > 2 and command[1].endswith("/ray") and command[2] == "start" else ""


def alive(process: psutil.Process) -> bool:
    """Whether it runs: same pid, same start time, not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Family:
    """All processes of one `sspo up`, those that are gone included. A thread looks for new ones."""

    def __init__(self, root: int, mark: str) -> None:
        self._root = psutil.Process(root)
        self._mark = mark
        self._seen: dict[psutil.Process, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="family")
        self._thread.start()

    def close(self) -> None:
        """Look for no more processes."""
        self._stop.set()
        self._thread.join()

    def living(self) -> list[psutil.Process]:
        """Every living descendant now."""
        try:
            found = [process for process in self._root.children(recursive=True) if alive(process)]
        except psutil.NoSuchProcess:
            return []
        with self._lock:
            for process in found:
                self._seen[process] = " ".join(_command(process))[:80] or self._seen.get(process, "")
        return found

    def find(self, kind: Victim, part: str = "") -> list[psutil.Process]:
        """Living processes of a kind, the newest first; `part` of a Ray head."""
        found = [process for process in self.living() if kind_of(_command(process)) is kind]
        if part:
            found = [process for process in found if ray_part(_command(process)) == part]
        return sorted(found, key=lambda process: process.pid, reverse=True)

    def under(self, kind: Victim) -> list[psutil.Process]:
        """Living processes of a kind with all their descendants."""
        family: dict[psutil.Process, None] = {}
        for process in self.find(kind):
            with contextlib.suppress(psutil.NoSuchProcess):
                family |= dict.fromkeys([process, *process.children(recursive=True)])
        return list(family)

    def survivors(self) -> list[str]:
        """What still lives of everything that was ever seen, or that carries the mark: orphans, after the end."""
        with self._lock:
            seen = dict(self._seen)
        marked = {
            process: " ".join(_command(process))[:80] for process in psutil.process_iter() if self._marked(process)
        }
        return describe([process for process in {**seen, **marked} if process != self._root and alive(process)])

    def _marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self._mark
        except (psutil.Error, OSError):
            return False

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            self.living()


def describe(processes: Iterable[psutil.Process]) -> list[str]:
    """Pid and command line of each."""
    return [f"{process.pid} {' '.join(_command(process))[:80]}" for process in processes]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []

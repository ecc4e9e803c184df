"""Fault points: only the armed process is hit, once, and the hit is on disk before it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil

from services import faults
from tests.chaos.plan import Victim
from tests.chaos.points import FOLDER, PROCESSES, Points

PASS_THREE_TIMES = "from services.faults import fault; [fault('here') for _ in range(3)]; print('passed')"


def run(folder: Path | None, *arguments: str) -> subprocess.Popen[str]:
    """A process that passes the point three times; `arguments` are visible in its command line."""
    environment = {**os.environ, **({FOLDER: str(folder)} if folder else {})}
    command = [sys.executable, "-c", PASS_THREE_TIMES, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=30)
    return process.returncode, output.strip()


def test_nothing_is_looked_for_without_the_variable(tmp_path: Path) -> None:
    points = Points(tmp_path)
    points.arm("here", Victim.ENGINE)
    assert outcome(run(None)) == (0, "passed")
    assert (tmp_path / "here").exists()
    assert faults._FOLDER is None, "the tests' own process must not have fault points"


def test_a_point_kills_at_its_pass_and_says_so_first(tmp_path: Path) -> None:
    points = Points(tmp_path)
    armed = points.arm("here", Victim.ENGINE, after=2)
    process = run(tmp_path)
    assert outcome(process) == (-signal.SIGKILL, "")
    hit = points.hit(armed)
    assert hit is not None and hit["pid"] == process.pid
    assert points.hits() == Counter({"engine here": 1})
    assert outcome(run(tmp_path)) == (0, "passed"), "a point is used up by its hit"


def test_too_few_passes_and_other_processes_are_left_alone(tmp_path: Path) -> None:
    points = Points(tmp_path)
    points.arm("here", Victim.ENGINE, after=3)
    assert outcome(run(tmp_path)) == (0, "passed")
    armed = points.arm("here", Victim.REWARD)
    assert outcome(run(tmp_path)) == (0, "passed")
    assert points.hit(armed) is None
    assert outcome(run(tmp_path, PROCESSES[Victim.REWARD])) == (-signal.SIGKILL, "")


def test_exactly_one_of_many_processes_is_hit(tmp_path: Path) -> None:
    Points(tmp_path).arm("here", Victim.ENGINE)
    codes = sorted(outcome(process)[0] for process in [run(tmp_path) for _ in range(4)])
    assert codes == [-signal.SIGKILL, 0, 0, 0]


def test_a_stopped_process_goes_on_when_it_is_told_to(tmp_path: Path) -> None:
    points = Points(tmp_path)
    armed = points.arm("here", Victim.ENGINE, action="stop")
    process = run(tmp_path)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert points.hit(armed) is not None
    psutil.Process(process.pid).resume()
    assert outcome(process) == (0, "passed")

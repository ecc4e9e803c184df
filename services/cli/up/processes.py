"""Processes by family: find them, end them, recognise what an earlier run left behind.

`sspo up` is a subreaper: processes that its children leave orphaned become its own children, so every process of a run
is among its descendants. A process is recognised by pid *and* start time, so a pid that the system has given away again
is left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from services.disk.files import write_atomic

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Adopt orphaned descendants. Linux only; elsewhere nothing is adopted and leftovers are found by record."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """All living descendants of a process, of this one by default."""
    try:
        return [p for p in psutil.Process(pid).children(recursive=True) if p.is_running()]
    except psutil.NoSuchProcess:
        return []


def reap(keep: Iterable[int]) -> None:
    """Collect adopted children that ended; those in `keep` are collected by their own Popen."""
    kept = set(keep)
    for child in psutil.Process().children():
        try:
            if child.pid not in kept and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            continue


def end(processes: Iterable[psutil.Process], patience_seconds: float) -> None:
    """Send SIGTERM, and after `patience_seconds` SIGKILL to the processes that are left."""
    alive = list(processes)
    for process in alive:
        _signal(process, "terminate")
    _, alive = psutil.wait_procs(alive, timeout=patience_seconds)
    for process in alive:
        _signal(process, "kill")
    psutil.wait_procs(alive, timeout=5)


def write_record(path: Path, processes: Iterable[psutil.Process], **fields: object) -> None:
    """Record which processes belong to this run. After a crash the next run cleans up by it."""
    rows = []
    for process in processes:
        try:
            rows.append({"pid": process.pid, "started": process.create_time(), "command": process.cmdline()[:3]})
        except psutil.NoSuchProcess:
            continue
    write_atomic(path, json.dumps({**fields, "written": time.time(), "processes": rows}).encode(), mode=0o600)


def leftovers(path: Path) -> list[psutil.Process]:
    """Processes of an earlier run that still live: same pid, same start time, same command line."""
    if not path.exists():
        return []
    found = []
    for row in json.loads(path.read_text()).get("processes", []):
        try:
            process = psutil.Process(row["pid"])
            if abs(process.create_time() - row["started"]) < 1 and process.cmdline()[:3] == row["command"]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _signal(process: psutil.Process, how: str) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        getattr(process, how)()

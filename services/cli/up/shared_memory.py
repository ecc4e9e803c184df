"""Shared memory that outlives a killed process: found while the process lives, removed once nobody has it.

Memory in /dev/shm stays until somebody removes its name. Ray's object store and torch remove theirs at once; the
engine's semaphores and buffers stay while they are used, and for ever after `kill -9`. Their names don't tell whose
they are. So each is recorded by name and inode while a process of ours has it mapped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

log = structlog.get_logger()

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, order=True)
class Segment:
    """One name in /dev/shm."""

    name: str
    inode: int


def named() -> dict[int, Segment]:
    """Named memory of this user, by inode; empty on a machine without /dev/shm."""
    found = {}
    try:
        entries = list(os.scandir(SHARED_MEMORY))
    except FileNotFoundError:
        return {}
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if status.st_uid == os.getuid():
            found[status.st_ino] = Segment(entry.name, status.st_ino)
    return found


def held_by(processes: Iterable[psutil.Process]) -> set[Segment]:
    """The named segments that any of these processes has mapped."""
    known = named()
    return {known[inode] for process in processes for inode in _mapped(process.pid) if inode in known}


def collect(segments: Iterable[Segment]) -> list[Segment]:
    """Remove what is still the recorded memory and no process maps any more; returns what was removed."""
    known = named()
    candidates = [segment for segment in segments if known.get(segment.inode) == segment]
    if not candidates:
        return []
    in_use = held_by(psutil.process_iter())
    removed = sorted(segment for segment in candidates if segment not in in_use)
    for segment in removed:
        (SHARED_MEMORY / segment.name).unlink(missing_ok=True)
        log.info("shared_memory_collected", name=segment.name)
    return removed


def recorded(path: Path) -> list[Segment]:
    """The segments that an earlier run recorded in its state file."""
    try:
        rows = json.loads(path.read_text()).get("shared_memory", [])
    except FileNotFoundError:
        return []
    return [Segment(row["name"], row["inode"]) for row in rows]


def _mapped(pid: int) -> Iterator[int]:
    """Inodes under /dev/shm that a process has mapped, whatever name it mapped them by."""
    try:
        with open(f"/proc/{pid}/maps") as lines:
            for line in lines:
                fields = line.split(None, 5)
                if len(fields) == 6 and fields[5].startswith(f"{SHARED_MEMORY}/"):
                    yield int(fields[4])
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone meanwhile, or somebody else's
        return

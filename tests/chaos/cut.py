"""Cutting the tail of Redis' append-only file: what a machine loses that goes down before its disk has the rest.

A cut never reaches into the file's preamble (the snapshot that a rewrite leaves at its start), nor before the creation
of the job that runs. It may fall into the middle of a command, which is what a torn write leaves.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.store import keys

_FIRST_COMMAND = b"*2\r\n$6\r\nSELECT\r\n"
_SNAPSHOT = b"REDIS"
TAIL_COMMANDS = 40
"""A cut that takes no commit away on purpose falls into the last few commands."""


class NotCut(RuntimeError):
    """The file has no place for this cut."""


@dataclass(frozen=True)
class Command:
    """One command of the file: where it begins, where it ends, what it says."""

    start: int
    end: int
    words: tuple[bytes, ...]


@dataclass(frozen=True)
class Cut:
    """What a cut took away."""

    lost_bytes: int
    lost_commits: int
    """Steps that the file knew of and no longer does."""
    torn: bool
    """Whether it fell into the middle of a command."""


def cut(path: Path, job_id: str, commits: int, dice: random.Random) -> Cut:
    """Shorten the file so that the job's last `commits` commits are lost. Redis must be down. Raises NotCut."""
    data = path.read_bytes()
    commands = list(parse(data, preamble_bytes(data)))
    floor = _creation(commands, job_id)
    at = _place(commands[floor:], job_id, commits, dice)
    torn = dice.random() < 0.5
    target = dice.randrange(at.start + 1, at.end) if torn else at.start
    kept = _loaded([command for command in commands if command.end <= target])
    os.truncate(path, target)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    lost = _committed(commands, job_id) - _committed(kept, job_id)
    return Cut(len(data) - target, lost, torn)


def preamble_bytes(data: bytes) -> int:
    """Length of the snapshot at the start; every append after it begins with SELECT. Raises NotCut."""
    if not data.startswith(_SNAPSHOT):
        return 0
    at = data.find(_FIRST_COMMAND)
    while at >= 0:
        if _parses(data, at):
            return at
        at = data.find(_FIRST_COMMAND, at + 1)
    raise NotCut("nothing was appended behind the preamble")


def parse(data: bytes, at: int) -> Iterator[Command]:
    """The commands from `at` on; a torn one at the end is left out. Raises ValueError for what is none."""
    while at < len(data):
        start = at
        try:
            count, at = _number(data, at, b"*")
            words = []
            for _ in range(count):
                size, at = _number(data, at, b"$")
                words.append(data[at : at + size])
                at += size + 2
        except EOFError:
            return
        if at > len(data):
            return
        yield Command(start, at, tuple(words))


def _number(data: bytes, at: int, mark: bytes) -> tuple[int, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise EOFError
    if data[at : at + 1] != mark:
        raise ValueError(f"expected {mark!r} at {at}")
    return int(data[at + 1 : end]), end + 2


def _parses(data: bytes, at: int) -> bool:
    try:
        return any(True for _ in parse(data, at)) and all(True for _ in parse(data, at))
    except ValueError:
        return False


def _creation(commands: list[Command], job_id: str) -> int:
    """Index of the first command behind the job's creation; 0 when the preamble holds it."""
    job = job_id.encode()
    for at, command in enumerate(commands):
        if command.words[0].upper() == b"ZADD" and command.words[1] == keys.JOBS.encode() and job in command.words:
            return at + 1
    return 0


def _place(commands: list[Command], job_id: str, commits: int, dice: random.Random) -> Command:
    if not commands:
        raise NotCut("nothing was written since the job's creation")
    if commits == 0:
        return dice.choice(commands[-TAIL_COMMANDS:])
    committed = _committed(commands, job_id)
    if committed < commits:
        raise NotCut(f"{committed} commits since the job's creation, wanted {commits}")
    return next(command for command in commands if (_step(command, job_id) or 0) > committed - commits)


def _loaded(commands: list[Command]) -> list[Command]:
    """What Redis keeps of them: a transaction without its end is left out."""
    names = [command.words[0].upper() for command in commands]
    opened = max((i for i, name in enumerate(names) if name == b"MULTI"), default=None)
    return commands if opened is None or b"EXEC" in names[opened:] else commands[:opened]


def _committed(commands: list[Command], job_id: str) -> int:
    return max((step for command in commands if (step := _step(command, job_id)) is not None), default=0)


def _step(command: Command, job_id: str) -> int | None:
    """The step that a commit made the next one; None for other commands."""
    if command.words[0].upper() != b"HSET" or command.words[1] != keys.progress(job_id).encode():
        return None
    fields = dict(zip(command.words[2::2], command.words[3::2], strict=False))
    return int(fields[b"next_step"]) if b"next_step" in fields else None

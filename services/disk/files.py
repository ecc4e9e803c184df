"""Durable files: written whole or not at all, with their hashes.

Invariant: every file and every name that has to survive a power cut is made here. A file's bytes are synced before it
gets its final name, and the folder that holds the name before the function returns.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20
LEFTOVER_SECONDS = 3600.0
"""Age after which a temporary file or folder is nobody's."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk, or of a share of it, that is full."""


def fsync(path: Path) -> None:
    """Make a file's bytes durable, or the names in a folder; renames and links are not durable before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def make_folder(folder: Path) -> None:
    """Create a folder and what is missing above it, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync(folder.parent)


@contextmanager
def durable(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write, synced at the end; removed when writing it fails. Its name is durable only with its folder's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_durable(path: Path, content: bytes) -> None:
    """Write and sync a file in a folder that gets its own sync later."""
    with durable(path) as file:
        file.write(content)


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write to a temporary name, sync, rename."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with durable(temporary, mode) as file:
        file.write(content)
    move(temporary, path)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file of figures. Not synced: a power cut may cost the last ones, or leave half of one."""
    make_folder(path.parent)
    with open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        torn = size > 0 and file.read(1) != b"\n"
        file.write((("\n" if torn else "") + line + "\n").encode())


def whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file of figures that are whole JSON objects; half a line is passed over. None without the file."""
    for _, line in whole_lines_at(path):
        yield line.decode(errors="replace")


def whole_lines_at(path: Path) -> Iterator[tuple[int, bytes]]:
    """The same as bytes, each with its offset."""
    if not path.exists():
        return
    place = 0
    with open(path, "rb") as file:
        for line in file:
            if line.startswith(b"{") and line.endswith(b"}\n"):
                yield place, line
            place += len(line)


def move(source: Path, target: Path) -> None:
    """Rename within a folder, durably: a file replaces what is there, a folder only an empty one."""
    os.rename(source, target)
    fsync(target.parent)


def link_exclusively(source: Path, target: Path) -> None:
    """Give a synced file a second name, durably. Raises FileExistsError when the name is taken."""
    os.link(source, target)
    fsync(target.parent)


def claim(path: Path, content: bytes) -> None:
    """Create a file that must not exist yet, durably. Raises FileExistsError."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fsync(path.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder. Its name goes first and durably, so nobody takes half a folder for the whole."""
    trash = folder.with_name(f".trash-{folder.name}")
    shutil.rmtree(trash, ignore_errors=True)
    move(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Put a folder that others wrote in the place of another one beside it, durably."""
    for path in (*source.rglob("*"), source):
        fsync(path)
    trash = target.with_name(f".trash-{target.name}")
    shutil.rmtree(trash, ignore_errors=True)
    if target.exists():
        os.rename(target, trash)
    move(source, target)
    shutil.rmtree(trash, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files under a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def remove_leftovers(folder: Path, *patterns: str) -> None:
    """Remove what killed processes were writing: files and folders by the patterns of their temporary names. Those
    younger than LEFTOVER_SECONDS may be a living process's, and stay."""
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        if age_seconds(path) <= LEFTOVER_SECONDS:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def age_seconds(path: Path) -> float:
    """Time since a file or folder was last written; 0 when it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0

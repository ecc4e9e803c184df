"""A disk that keeps only what was synced: what a folder looks like after a power cut, in the worst case.

A file's bytes are those of its last fsync (none: it is empty), a folder's names those of its last fsync (none: it has
none). Real file systems keep more; nothing may depend on it. What was there before the context began is durable.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest import mock


class ForgetfulDisk:
    """Records every fsync under `root` while it is entered.

    Args:
        skip: index of an fsync that is left out, as if the code had forgotten it.
    """

    def __init__(self, root: Path, *, skip: int | None = None) -> None:
        self._root = root
        self._skip = skip
        self._names: dict[int, dict[str, int]] = {}
        self._bytes: dict[int, bytes] = {}
        self._open: list[int] = []
        self._stack = ExitStack()
        self.synced = 0
        """fsync calls so far, those left out included."""

    def __enter__(self) -> Self:
        for path in [self._root, *self._root.rglob("*")]:
            self._keep(path)
        self._stack.enter_context(mock.patch.object(os, "fsync", self._fsync))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for descriptor in self._open:
            os.close(descriptor)

    def cut(self, target: Path) -> Path:
        """Write to `target` what is left of the folder when the power goes now."""
        self._write(self._root.stat().st_ino, target)
        return target

    def _fsync(self, descriptor: int) -> None:
        self.synced += 1
        if self.synced - 1 != self._skip:
            self._keep(Path(f"/proc/self/fd/{descriptor}"))

    def _keep(self, path: Path) -> None:
        """Note names or bytes. Inodes are held open, so that a number is never given to another file."""
        descriptor = os.open(path, os.O_RDONLY)
        self._open.append(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            names = {entry.name: entry.inode() for entry in os.scandir(descriptor)}
            self._open += [os.open(name, os.O_RDONLY, dir_fd=descriptor) for name in names]
            self._names[found.st_ino] = names
            for held in self._open[-len(names) :] if names else []:
                if stat.S_ISDIR(os.fstat(held).st_mode):
                    self._names.setdefault(os.fstat(held).st_ino, {})
        else:
            with open(path, "rb") as file:
                self._bytes[found.st_ino] = file.read()

    def _write(self, inode: int, target: Path) -> None:
        if inode in self._names:
            target.mkdir()
            for name, child in self._names[inode].items():
                self._write(child, target / name)
        else:
            target.write_bytes(self._bytes.get(inode, b""))

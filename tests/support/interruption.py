"""A process that ends between two operations of the disk: after so many of them the next one raises."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest


class Interrupted(BaseException):
    """Stands for the end of the process."""


@dataclass
class Interruption:
    """How many operations are left to the process, and whether it has come to its end."""

    left: int
    happened: bool = False


@contextmanager
def interrupted_after(survived: int, operations: Sequence[str]) -> Iterator[Interruption]:
    """Let `survived` calls of these functions of `os` through; the next one ends the block, quietly."""
    interruption = Interruption(survived)

    def counted(real: Any) -> Any:
        def operation(*arguments: Any, **named: Any) -> Any:
            interruption.left -= 1
            if interruption.left < 0:
                raise Interrupted
            return real(*arguments, **named)

        return operation

    with pytest.MonkeyPatch.context() as patched:
        for name in operations:
            patched.setattr(os, name, counted(getattr(os, name)))
        try:
            yield interruption
        except Interrupted:
            interruption.happened = True

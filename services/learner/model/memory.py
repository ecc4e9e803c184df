"""One typed error for memory that ran out: Python's error, torch's on a device and torch's on the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from services.learner.errors import OutOfMemory


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def typed_memory_errors() -> Iterator[None]:
    """Turn them into OutOfMemory. Decorates functions, too."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if ran_out_of_memory(error):
            raise OutOfMemory(f"the model and what training it takes do not fit into memory: {error}") from error
        raise

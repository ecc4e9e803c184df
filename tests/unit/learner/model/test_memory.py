"""When memory ran out."""

from __future__ import annotations

import pytest
import torch

from services.learner.errors import OutOfMemory
from services.learner.model.memory import typed_memory_errors


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_way_of_running_out_is_one_typed_error(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match="do not fit into memory"), typed_memory_errors():
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError("no space")])
def test_other_errors_are_no_lack_of_memory(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, typed_memory_errors():
        raise error
    assert raised.value is error

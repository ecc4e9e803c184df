"""Step records as TensorBoard's event files, through torch's own writer.

A restart or a rollback begins a new file that purges the steps from its first on: TensorBoard then shows one line, of
the lineage that survives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TensorBoardSink:
    """Event files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._next = -1

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Append one step; a step that is not the next one purges what is there of it and behind it."""
        if self._writer is None or step < self._next:
            self._open(step)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        self._next = step + 1

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self._writer = SummaryWriter(str(self._folder), purge_step=step)

"""Named points at which a test may kill or stop the process that passes them; nothing happens anywhere else.

The environment variable `SSPO_FAULTS` names a folder. Only tests set it; without it a point costs one look at a module
variable. A point is armed by a file of its name in that folder, JSON: `action` ("kill" or "stop"), `after` (the number
of passes to let go by), `process` (a text that the command line must contain; "" for any), `id`.

Invariants: an armed point is taken by exactly one process, which renames its file; a hit is on disk, under
`hits/NAME.ID`, before the process acts on it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil

from services.disk.files import write_atomic
from services.settings.processes import FaultSettings

_FOLDER = FaultSettings.read().faults
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_passes: dict[str, int] = {}
"""Id of an armed point -> how often this process has passed it."""


def fault(name: str) -> None:
    """A point. Returns, unless a test has armed it for this process."""
    if _FOLDER is not None:
        _look(_FOLDER, name)


def _look(folder: Path, name: str) -> None:
    try:
        armed = json.loads((folder / name).read_text())
    except FileNotFoundError:
        return
    command = " ".join(psutil.Process().cmdline())
    if armed["process"] not in command:
        return
    passes = _passes[armed["id"]] = _passes.get(armed["id"], 0) + 1
    if passes > armed["after"] and _claim(folder, name, armed["id"]):
        hit = {"pid": os.getpid(), "time": time.time(), "command": command, **armed}
        write_atomic(folder / "hits" / f"{name}.{armed['id']}", json.dumps(hit).encode())
        os.kill(os.getpid(), _SIGNALS[armed["action"]])


def _claim(folder: Path, name: str, armed_id: str) -> bool:
    claims = folder / "claims"
    claims.mkdir(exist_ok=True)
    try:
        (folder / name).rename(claims / armed_id)
    except FileNotFoundError:  # another process was faster
        return False
    return True

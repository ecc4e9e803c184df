"""Arming the named fault points of a running service, and reading which of them were hit."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from services.disk.files import write_atomic
from tests.chaos.plan import Victim
from tests.chaos.victims import ACTORS

FOLDER = "SSPO_FAULTS"
PROCESSES = {
    **ACTORS,
    Victim.ENGINE: "",
    Victim.CONTROLLER: "services.controller",
    Victim.API: "services.api",
}
"""What the command line of each kind of process contains. An engine's own point is passed by nobody else."""


class Points:
    """The folder that the service's environment names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "hits").mkdir(parents=True, exist_ok=True)

    def arm(self, point: str, victim: Victim, after: int = 0, action: str = "kill") -> str:
        """Arm a point for one kind of process; returns the id by which its hit is found."""
        armed_id = uuid.uuid4().hex
        order = {"id": armed_id, "action": action, "after": after, "process": PROCESSES[victim], "kind": victim.value}
        write_atomic(self.folder / point, json.dumps(order).encode())
        return armed_id

    def disarm(self, point: str) -> None:
        """Take an order back, if nobody has taken it."""
        (self.folder / point).unlink(missing_ok=True)

    def hit(self, armed_id: str) -> dict[str, Any] | None:
        """Who hit the point, and when; None as long as nobody has."""
        for path in (self.folder / "hits").glob(f"*.{armed_id}"):
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        return None

    def hits(self) -> Counter[str]:
        """Hits by point and kind of process."""
        counts: Counter[str] = Counter()
        for path in (self.folder / "hits").glob("*.*"):
            order = json.loads(path.read_text())
            counts[f"{order['kind']} {path.name.removesuffix('.' + order['id'])}"] += 1
        return counts

"""An alert as data.

Invariant: an expression is a measured value, a comparison and a threshold, and perhaps a condition under which it
counts; so that what is measured can be asked for without its threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RUNBOOK = "docs/runbook.md"
Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Fires when `measured comparison threshold` has held for `lasting`, where `when` has a value too."""

    name: str
    severity: Severity
    measured: str
    comparison: Literal[">", "<", "=="]
    threshold: float
    when: str = ""
    lasting: str
    summary: str
    description: str

    @property
    def promql(self) -> str:
        compared = f"{self.measured} {self.comparison} {self.threshold:g}"
        return f"{compared} and {self.when}" if self.when else compared

    @property
    def runbook(self) -> str:
        return f"{RUNBOOK}#{self.name.lower()}"

    def rule(self) -> dict[str, object]:
        """As an entry of a rule file."""
        annotations = {"summary": self.summary, "description": self.description, "runbook_url": self.runbook}
        return {
            "alert": self.name,
            "expr": self.promql,
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": annotations,
        }

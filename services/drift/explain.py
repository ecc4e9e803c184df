"""Explains the figures of a job in words, by rules over the newest steps and the limits of `thresholds`.

Every rule is a plain function that answers a finding or None, without I/O. Rules on engines are in `explain_engine`, on
drift in `explain_drift`, on task and queues in `explain_flow`.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.drift import explain_drift, explain_engine, explain_flow
from services.drift.findings import ORDER, Finding, Surroundings
from services.job.spec import JobSpec
from services.records.step import StepRecord

RULES = (*explain_engine.RULES, *explain_drift.RULES, *explain_flow.RULES)
WINDOW_STEPS = 8
"""Steps that are looked at together."""


def explain(spec: JobSpec, records: Sequence[StepRecord], surroundings: Surroundings | None = None) -> list[Finding]:
    """Findings on a job, the gravest first.

    Args:
        records: step records, ascending; the newest `WINDOW_STEPS` are used, and all of them for the best reward.
        surroundings: queues, workers and counts, where they are known.
    """
    around = surroundings or Surroundings()
    window = records[-WINDOW_STEPS:]
    found = [rule(spec, window, around) for rule in RULES]
    found.append(explain_flow.reward_collapsed(records, WINDOW_STEPS))
    kept = [finding for finding in found if finding is not None]
    if window and not any(finding.severity != "info" for finding in kept):
        text = "No figure of the last steps crosses a threshold."
        kept.append(Finding("nothing_wrong", "Nothing stands out", text, "info", {"steps": len(window)}))
    return sorted(kept, key=lambda finding: ORDER[finding.severity])

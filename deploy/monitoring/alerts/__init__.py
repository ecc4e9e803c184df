"""Every alert, and the file of rules. docs/runbook.md says why thresholds are what they are, and what to do."""

from __future__ import annotations

from deploy.monitoring.alerts import drift, progress, workers
from deploy.monitoring.alerts.alert import Alert
from deploy.monitoring.alerts.phrases import RECORDING

GROUPS: dict[str, tuple[Alert, ...]] = {
    "sspo-drift": drift.ALERTS,
    "sspo-progress": progress.ALERTS,
    "sspo-workers": workers.WORKERS,
    "sspo-service": workers.SERVICE,
}
ALERTS = tuple(alert for alerts in GROUPS.values() for alert in alerts)


def document() -> dict[str, object]:
    """The rule file."""
    recording = [{"record": name, "expr": expr} for name, expr in RECORDING.items()]
    groups: list[dict[str, object]] = [{"name": "sspo-recording", "rules": recording}]
    groups += [{"name": name, "rules": [alert.rule() for alert in found]} for name, found in GROUPS.items()]
    return {"groups": groups}

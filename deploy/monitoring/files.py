"""The generated files and their paths."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from deploy.monitoring import alerts, grafana, metrics_page
from deploy.monitoring.boards import DASHBOARDS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD_FOLDER = ROOT / "deploy" / "grafana" / "dashboards"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
METRICS_PAGE = ROOT / "docs" / "metrics.md"
NOTICE = "# Written by `make dashboards` from deploy/monitoring/alerts/; don't edit it here.\n"


def files() -> dict[Path, str]:
    """Every file with its text."""
    texts = {
        DASHBOARD_FOLDER / f"{one.uid}.json": json.dumps(grafana.document(one), indent=1, ensure_ascii=False) + "\n"
        for one in DASHBOARDS
    }
    texts[RULES] = NOTICE + yaml.safe_dump(alerts.document(), sort_keys=False, width=1000, allow_unicode=True)
    texts[METRICS_PAGE] = metrics_page.document()
    return texts

"""Finds the shipped alerts that fire in a run: Prometheus' rules read the product's metrics page, taken between all
steps.

A step takes a third of a second here, and an alert waits for minutes: so each step counts as a scrape of the shipped
configuration. `promtool` (Debian's package prometheus) evaluates the rules.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from deploy.monitoring.files import RULES
from services.api.collector import JobCollector
from services.api.dependencies import Service
from services.disk.layout import Layout
from services.settings.processes import ApiSettings
from services.store.client import Client

SCRAPE_SECONDS = 15
LAST = 16
"""Scrapes of the last page, after the end of a run: the page stays for longer than the alert waits."""
NEEDED = ("sspo_finding", "sspo_learner_step", "sspo_learner_workers", "sspo_rollout_workers", "sspo_reward_workers")

Page = dict[str, float]
"""Series with labels → value."""


class Scrapes:
    """The pages of one job; the last one when the block ends."""

    def __init__(self, job_id: str, client: Client, layout: Layout) -> None:
        address = client.connection_pool.connection_kwargs["path"]
        self._service = Service.open(ApiSettings(data=layout.root, redis_url=f"unix://{address}", api_key="testbed"))
        self._job_id = job_id
        self.pages: list[Page] = []

    def __enter__(self) -> Scrapes:
        return self

    def __exit__(self, *about: Any) -> None:
        self.take()
        self._service.client.close()

    def take(self) -> None:
        """One page, as it is now."""
        families = JobCollector(self._service).collect()
        samples = [sample for family in families for sample in family.samples if sample.name in NEEDED]
        mine = [sample for sample in samples if sample.labels["job_id"] == self._job_id]
        self.pages.append({_series(sample.name, sample.labels): float(sample.value) for sample in mine})


def _series(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in sorted(labels.items()))}}}"


def firing(pages: list[Page]) -> list[str]:
    """Findings for which the alert SspoFinding fires at some time of these pages. Needs promtool.

    Raises RuntimeError for a page without the job: its silence would mean nothing.
    """
    if not all(any(series.startswith("sspo_learner_step{") for series in page) for page in pages):
        raise RuntimeError("the metrics page left the job out")
    scrapes = [*pages, *(pages[-1] for _ in range(LAST))]
    series = sorted({series for page in scrapes for series in page})
    fired = 'count by (finding) (max_over_time(ALERTS{alertname="SspoFinding", alertstate="firing"}[1d]))'
    test = {
        "interval": f"{SCRAPE_SECONDS}s",
        "input_series": [
            {"series": name, "values": " ".join(_value(page.get(name)) for page in scrapes)} for name in series
        ],
        "promql_expr_test": [{"expr": fired, "eval_time": f"{SCRAPE_SECONDS * len(scrapes)}s", "exp_samples": []}],
    }
    return _unexpected({"rule_files": [str(RULES)], "evaluation_interval": f"{SCRAPE_SECONDS}s", "tests": [test]})


def _value(value: float | None) -> str:
    return "stale" if value is None else f"{value:g}"


def _unexpected(tests: dict[str, Any]) -> list[str]:
    """The label `finding` of what promtool got where the test expects nothing."""
    program = shutil.which("promtool")
    if program is None:
        raise FileNotFoundError("no promtool on PATH: Debian's package prometheus has it")
    with tempfile.TemporaryDirectory(prefix="alarms-") as folder:
        path = Path(folder) / "test.json"  # JSON is YAML
        path.write_text(json.dumps(tests))
        done = subprocess.run([program, "test", "rules", path], capture_output=True, text=True, timeout=60)
    found = re.findall(r'finding="(\w+)"', (done.stdout + done.stderr).partition("got:")[2])
    if bool(found) != bool(done.returncode):
        raise RuntimeError(f"promtool: {done.stdout}{done.stderr}")
    return sorted(found)

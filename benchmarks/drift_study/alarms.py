"""What the shipped alerts say of a run: the product's metrics page, taken after every step, through Prometheus' rules.

A step of the study takes a third of a second, and an alert waits for minutes: here each step is a scrape of the shipped
configuration. `promtool` (Debian's package prometheus) evaluates the rules.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from deploy.monitoring.files import RULES
from services.api.collector import JobCollector
from services.api.dependencies import Service
from services.api.settings import Settings
from services.layout import Layout
from services.store.client import Client

SCRAPE_SECONDS = 15
LAST = 16
"""Scrapes of the last page, after the end of a run: the page stays for longer than the alert waits."""
NEEDED = ("sspo_finding", "sspo_learner_step", "sspo_learner_workers", "sspo_rollout_workers", "sspo_reward_workers")
POLL_SECONDS = 0.05

Page = dict[str, float]
"""Series with labels → value."""


class Watch:
    """Takes the page of a job after each of its steps, for as long as the block lasts."""

    def __init__(self, job_id: str, client: Client, layout: Layout) -> None:
        address = client.connection_pool.connection_kwargs["path"]
        self._service = Service.open(Settings(data=layout.root, redis_url=f"unix://{address}", api_key="study"))
        self._job_id = job_id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="alarms")
        self._error: BaseException | None = None
        self.pages: list[Page] = []
        """One for each step that was seen, and one for the end."""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *about: Any) -> None:
        self._ended.set()
        self._thread.join(30)
        if self._error is not None:
            raise RuntimeError("the metrics page can't be read") from self._error
        self.pages.append(self._page())
        self._service.client.close()

    def _run(self) -> None:
        try:
            seen = 0
            while not self._ended.wait(POLL_SECONDS):
                step = self._service.progress.read(self._job_id).next_step
                if step != seen:
                    self.pages.append(self._page())
                    seen = step
        except BaseException as error:  # noqa: BLE001 — the thread's boundary: whoever leaves the block gets it
            self._error = error

    def _page(self) -> Page:
        families = JobCollector(self._service).collect()
        samples = [sample for family in families for sample in family.samples if sample.name in NEEDED]
        mine = [sample for sample in samples if sample.labels["job_id"] == self._job_id]
        return {_series(sample.name, sample.labels): float(sample.value) for sample in mine}


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

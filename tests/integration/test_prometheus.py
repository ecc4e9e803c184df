"""A real Prometheus on a running service: every panel has data, and no alert fires for a healthy job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.monitoring.alerts import ALERTS
from tests.support.prometheus.questions import JOB, questions, scale_up_and_down, table, unanswered
from tests.support.prometheus.server import Prometheus, scraping
from tests.support.service import RunningService

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

ASKED_FOR = {"SspoRolloutWorkersMissing", "SspoRewardWorkersMissing", "SspoScrapeTargetDown", "SspoFinding"}
"""Thresholds that scaling, a killed worker and a job with a batch this small cross for a moment."""


@pytest.fixture
def prometheus(service: RunningService, tmp_path: Path) -> Iterator[Prometheus]:
    """A server that scrapes the running service."""
    with scraping(tmp_path, service) as running:
        yield running


def test_every_panel_and_every_alert_has_data_while_a_job_is_scaled(
    service: RunningService, prometheus: Prometheus
) -> None:
    job_id = service.submit(**JOB)
    scale_up_and_down(service, job_id, seconds=5)
    answers = {question: prometheus.ask(question.expression) for question in questions(job_id)}
    print(table(answers))
    assert len(answers) > 150 and not unanswered(answers)
    crossed = {alert.name for alert in ALERTS if prometheus.ask(alert.promql)}
    assert crossed <= ASKED_FOR, "a healthy job crosses a threshold"
    assert prometheus.ask('ALERTS{alertstate="firing"}') == []

    kinds = {target["labels"].get("kind") for target in prometheus.targets() if target["health"] == "up"}
    assert kinds == {None, "rollout", "reward", "learner", "ray"}
    [desired] = prometheus.ask(f'sspo_rollout_workers{{job_id="{job_id}", state="desired"}}')
    assert _without_repeats([float(value) for _, value in desired["values"]]) == [1.0, 2.0, 1.0]
    [restarts] = prometheus.ask(f'sspo_worker_restarts_total{{job_id="{job_id}", kind="reward"}}')
    assert float(restarts["values"][-1][1]) == 1.0


def _without_repeats(found: list[float]) -> list[float]:
    return [value for index, value in enumerate(found) if index == 0 or found[index - 1] != value]

"""A whole service, watched: a real engine samples and a real learner trains, while a person looks on and acts in a
browser and a real Prometheus finds and scrapes every worker. Every panel has data; no alert fires for a healthy job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from deploy.monitoring.alerts import ALERTS
from tests.browser.look import comes, curves, drawn, tile
from tests.browser.stage import NEEDS_CHROMIUM, chromium, sign_in, visiting
from tests.support.prometheus.questions import JOB, questions, scale_up_and_down, table, unanswered
from tests.support.prometheus.server import Prometheus, scraping
from tests.support.service import ENDED_STEPS, RunningService

pytestmark = [NEEDS_CHROMIUM, pytest.mark.system, pytest.mark.timeout(420)]

STEPS_MILLISECONDS = 60_000
ASKED_FOR = {"SspoRolloutWorkersMissing", "SspoRewardWorkersMissing", "SspoScrapeTargetDown", "SspoFinding"}
"""Thresholds that scaling, a killed worker and a job with a batch this small cross for a moment."""


def step(page: Page) -> int:
    """The step that the page shows now."""
    return int(tile(page, "Step").inner_text().split("/")[0])


def expect_step(page: Page, least: int) -> None:
    """The page gets there by itself."""
    page.wait_for_function(
        "least => parseInt(document.querySelector('[data-tile=\"Step\"] .value')?.textContent) >= least",
        arg=least,
        timeout=STEPS_MILLISECONDS,
    )


@pytest.fixture
def prometheus(service: RunningService, tmp_path: Path) -> Iterator[Prometheus]:
    """A server that scrapes the running service."""
    with scraping(tmp_path, service) as running:
        yield running


def test_a_job_is_followed_scaled_compared_and_cancelled_in_a_browser_while_prometheus_scrapes_it(
    service: RunningService, prometheus: Prometheus, ended_job: str
) -> None:
    running = service.submit(**JOB)  # cancelled below
    key = service.layout.api_key.read_text().strip()
    with chromium() as browser, visiting(browser, service.url) as visit:
        page = visit(f"/jobs/{running}", signed_in=False, allowed="401")
        sign_in(page, service.url, key="sk-wrong")
        expect(page.get_by_role("alert")).to_contain_text("This is not the API key")
        sign_in(page, service.url, key)
        page.goto(f"{service.url}/ui/jobs/{running}")
        page.evaluate("window.neverLoadedAgain = true")
        it_follows(page)
        it_shows_drift_and_samples(page)
        it_scales(page, service, running)
        assert page.evaluate("window.neverLoadedAgain") is True
        every_question_is_answered(prometheus, running)
        it_compares(visit(f"/compare?jobs={ended_job}", signed_in=False), service, key, ended_job, running)
        it_cancels(page, service, running)


def it_follows(page: Page) -> None:
    expect_step(page, 2)
    page.wait_for_function("document.querySelector('[data-panel=reward] canvas') !== null")
    then, points = step(page), drawn(page, "ess")
    expect_step(page, then + 5)
    comes(page, lambda: drawn(page, "ess"), lambda now: now > points)
    expect(page.locator('[data-panel="events"]').first).to_contain_text("Step ")


def it_shows_drift_and_samples(page: Page) -> None:
    page.get_by_role("tab", name="Drift").click()
    for panel in ("heat", "histogram", "gate", "kl", "ess", "band", "staleness", "tails", "weights"):
        expect(page.locator(f'.q-tab-panel [data-panel="{panel}"] canvas').first).to_be_visible()
        assert drawn(page, panel) > 0, panel
    page.get_by_role("tab", name="Samples").click()
    expect(page.locator(".prompt")).to_contain_text("=")
    page.locator(".tokens span").first.hover()
    expect(page.locator(".token-tip")).to_contain_text(re.compile(r"ratio [\d.]+.*gate weight [\d.]+.*by v\d", re.S))


def it_scales(page: Page, service: RunningService, job_id: str) -> None:
    page.get_by_role("tab", name="Workers & queues").click()
    rollout = page.locator('[data-scale="rollout"]')
    expect(rollout).to_contain_text("1 (1 ready)")

    def click(replicas: int) -> None:
        if replicas == 1:
            expect(rollout).to_contain_text("2 (2 ready)")
        page.get_by_role("button", name=f"{'More' if replicas == 2 else 'Fewer'} rollout workers").click()
        expect(rollout).to_contain_text(f"{replicas} (")

    scale_up_and_down(service, job_id, seconds=5, scale=click)
    expect(rollout).to_contain_text("1 (1 ready)")
    expect_step(page, step(page) + 2)


def every_question_is_answered(prometheus: Prometheus, job_id: str) -> None:
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


def it_compares(page: Page, service: RunningService, key: str, ended: str, running: str) -> None:
    sign_in(page, service.url, key)
    page.goto(f"{service.url}/ui/compare?jobs={ended}")
    page.get_by_label("Jobs").click()
    page.get_by_role("option", name=running).click()
    page.keyboard.press("Escape")
    rows = page.locator("table tbody tr")
    expect(rows).to_have_count(2)
    both = comes(page, lambda: curves(page, "kl"), lambda found: len(found) == 2 and min(found) >= ENDED_STEPS)
    comes(page, lambda: curves(page, "kl"), lambda found: found != both)  # the running job's is drawn anew here too


def it_cancels(page: Page, service: RunningService, job_id: str) -> None:
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Yes, cancel").click()
    expect(page.locator(".head .mark")).to_have_text("cancelled", timeout=60_000)
    assert service.wait_for_end(job_id)["ledger"]["balanced"]

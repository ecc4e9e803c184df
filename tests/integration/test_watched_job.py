"""The dashboard of a whole service: a real engine samples, a real learner trains, and a person looks on and acts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.look import drawn, tile
from tests.browser.stage import NEEDS_CHROMIUM, chromium, sign_in, visiting
from tests.support.service import RunningService

pytestmark = [NEEDS_CHROMIUM, pytest.mark.system, pytest.mark.timeout(420)]

SMALL = {"batch_size": 8, "updates_per_step": 2, "max_staleness": 4}
WORKER_MILLISECONDS = 90_000
"""An engine takes a while to start."""
STEPS_MILLISECONDS = 60_000


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


def test_a_real_job_is_followed_scaled_compared_and_cancelled(service: RunningService) -> None:
    ended = an_ended_job(service)
    running = service.submit(learner={**SMALL, "steps": 100_000})  # cancelled below
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
        it_compares(visit(f"/compare?jobs={ended}", signed_in=False), service, key, ended, running)
        it_cancels(page, service, running)


def an_ended_job(service: RunningService) -> str:
    """One that another test of this session left, or a short one of our own."""
    for job in service.client.fine_tuning.jobs.list():
        if job.status in ("succeeded", "cancelled") and service.view(job.id)["step"] >= 6:
            return job.id
    job_id = service.submit(learner={**SMALL, "steps": 6})
    service.wait_for(job_id, lambda view: view["status"] == "succeeded", 180)
    return job_id


def it_follows(page: Page) -> None:
    expect_step(page, 2)
    page.wait_for_function("document.querySelector('[data-panel=reward] canvas') !== null")
    then, points = step(page), drawn(page, "ess")
    expect_step(page, then + 5)
    page.wait_for_timeout(500)
    assert drawn(page, "ess") > points
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
    page.get_by_role("button", name="More rollout workers").click()
    expect(rollout).to_contain_text("2 (2 ready)", timeout=WORKER_MILLISECONDS)
    assert len(service.workers(job_id, "rollout")) == 2
    page.get_by_role("button", name="Fewer rollout workers").click()
    expect(rollout).to_contain_text("1 (1 ready)", timeout=WORKER_MILLISECONDS)
    expect_step(page, step(page) + 2)


def it_compares(page: Page, service: RunningService, key: str, ended: str, running: str) -> None:
    sign_in(page, service.url, key)
    page.goto(f"{service.url}/ui/compare?jobs={ended}")
    page.get_by_label("Jobs").click()
    page.get_by_role("option", name=running).click()
    page.keyboard.press("Escape")
    rows = page.locator("table tbody tr")
    expect(rows).to_have_count(2)
    page.wait_for_timeout(500)
    points = drawn(page, "kl")
    assert points > 2 * 6, "both jobs' curves"
    page.wait_for_timeout(5000)
    assert drawn(page, "kl") > points, "the running job's curve grows here too"


def it_cancels(page: Page, service: RunningService, job_id: str) -> None:
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Yes, cancel").click()
    expect(page.locator(".head .mark")).to_have_text("cancelled", timeout=60_000)
    assert service.wait_for_end(job_id)["ledger"]["balanced"]

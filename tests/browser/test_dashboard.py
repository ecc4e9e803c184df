"""What a person sees and does. Every page also fails on an error in the console or a request elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.transitions import Status
from tests.browser.look import comes, drawn, settle, shift, tile
from tests.browser.scene import Crew, Scene
from tests.browser.stage import KEY, Open, sign_in

NewScene = Callable[..., Scene]
STAFF: Crew = [("rollout-1", "rollout", "ready", 1.0), ("reward-1", "reward", "ready", 1.0)]


def test_a_wrong_key_is_refused_and_the_right_one_leads_on(visit: Open, scene: NewScene, url: str) -> None:
    job = scene()
    job.create()
    page = visit(f"/jobs/{job.job_id}", signed_in=False, allowed="401")
    expect(page).to_have_url(re.compile(r"/ui/login\?next="))
    page.get_by_label("API key").fill("sk-wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not the API key")
    assert "sspo_session" not in {cookie["name"] for cookie in page.context.cookies()}
    page.goto(f"{url}/ui/jobs/{job.job_id}")
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text(job.job_id)
    assert KEY not in page.url and all(KEY not in str(cookie) for cookie in page.context.cookies())
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.goto(f"{url}/ui/")
    expect(page.get_by_label("API key")).to_be_visible()


def test_the_list_of_jobs_says_where_each_is(visit: Open, scene: NewScene) -> None:
    running, queued = scene(steps=40, suffix="first"), scene(steps=40)
    running.create()
    running.train(0, 10)
    running.staff(STAFF, 11)
    queued.create(Status.QUEUED)
    page = visit("/")
    row = page.locator("tr", has_text=running.job_id)
    for text in ("running", "a batch", "10 / 40", "first", "1 / 2"):
        expect(row).to_contain_text(text)
    expect(page.locator("tr", has_text=queued.job_id)).to_contain_text("the controller")
    running.train(10, 12)
    expect(row).to_contain_text("12 / 40")
    row.get_by_role("link").click()
    expect(page.locator("h1")).to_have_text(running.job_id)


def test_without_jobs_the_list_says_how_to_get_one(visit: Open) -> None:
    expect(visit("/").locator(".empty")).to_contain_text("No job yet")


def test_a_running_jobs_page_follows_without_a_reload(visit: Open, scene: NewScene) -> None:
    job = scene(steps=40)
    job.create()
    page = visit(f"/jobs/{job.job_id}")
    reward = page.locator('[data-panel="reward"]')
    expect(reward).to_contain_text("No step yet: waiting for a batch")
    page.evaluate("window.neverLoadedAgain = true")
    job.train(0, 6)
    expect(tile(page, "Step")).to_have_text("6 / 40")
    page.wait_for_function("document.querySelector('[data-panel=reward] canvas') !== null")
    before = drawn(page, "ess")
    job.train(6, 9)
    job.tell(("warn", "something new happened"))
    expect(tile(page, "Step")).to_have_text("9 / 40")
    expect(page.locator('[data-panel="events"]').first).to_contain_text("something new happened")
    assert drawn(page, "ess") == before + 2 * 3
    expect(tile(page, "Weights")).to_have_text("v10")
    assert page.evaluate("window.neverLoadedAgain") is True


def test_the_drift_tab_draws_every_panel_and_explains_it(visit: Open, scene: NewScene) -> None:
    job = scene(steps=20)
    job.create()
    job.train(0, 8)
    page = visit(f"/jobs/{job.job_id}?tab=drift")
    panels = ("heat", "histogram", "gate", "kl", "ess", "band", "staleness", "tails", "weights")
    for panel in panels:
        expect(page.locator(f'.q-tab-panel [data-panel="{panel}"] canvas').first).to_be_visible()
    everything = drawn(page, "heat")
    page.get_by_label("Staleness", exact=True).click()
    page.get_by_role("option", name="staleness 0").click()
    # Tokens of staleness 0 lie in fewer buckets.
    comes(page, lambda: drawn(page, "heat"), lambda points: 0 < points < everything)
    page.locator('[data-panel="gate"] .info').click()
    expect(page.locator(".explain")).to_contain_text("gate changes a token's gradient")


def test_the_page_scales_pauses_and_resumes(visit: Open, scene: NewScene, client: Client) -> None:
    job = scene()
    job.create()
    job.staff(STAFF, 1)
    page = visit(f"/jobs/{job.job_id}?tab=flow")
    expect(page.locator("table")).not_to_have_count(0)
    page.get_by_role("button", name="More rollout workers").click()
    expect(page.locator('[data-scale="rollout"]')).to_contain_text("3 (1 ready)")
    page.get_by_role("button", name="Fewer reward workers").click()
    expect(page.locator('[data-scale="reward"]')).to_contain_text("0 (1 ready)")
    record = Jobs(client).get(job.job_id)
    assert (record.rollout_workers, record.reward_workers) == (3, 0)
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="No, go back").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert Jobs(client).get(job.job_id).status is Status.RUNNING
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="Yes, pause").click()
    expect(page.locator(".head .mark")).to_have_text("pausing")
    assert Jobs(client).get(job.job_id).status is Status.PAUSING
    Jobs(client).transition(job.job_id, Status.PAUSED, by="test")
    page.get_by_role("button", name="Resume", exact=True).click()
    page.get_by_role("button", name="Yes, resume").click()
    expect(page.locator(".head .mark")).to_have_text("queued")


def test_samples_are_coloured_by_ratio_weight_and_version(visit: Open, scene: NewScene) -> None:
    job = scene(steps=20)
    job.create()
    job.train(0, 3)
    job.sample(2)
    page = visit(f"/jobs/{job.job_id}?tab=samples")
    tokens = page.locator(".tokens span")
    expect(page.locator(".prompt")).to_contain_text("How many pencils")
    colours = "spans => spans.map(span => span.style.backgroundColor)"
    by_ratio = tokens.evaluate_all(colours)
    assert len(set(by_ratio)) > 3
    tokens.first.hover()
    expect(page.locator(".token-tip")).to_contain_text(re.compile(r"ratio [\d.]+.*gate weight [\d.]+.*by v\d", re.S))
    page.get_by_role("button", name="version").click()
    expect(page.locator(".legend")).to_contain_text("version that sampled")
    by_version = tokens.evaluate_all(colours)
    assert 1 < len(set(by_version)) <= 4
    page.get_by_role("button", name="gate weight").click()
    expect(page.locator(".legend")).to_contain_text("weight of the token's gradient")
    assert tokens.evaluate_all(colours) not in (by_ratio, by_version)


def test_two_jobs_are_compared(visit: Open, scene: NewScene) -> None:
    jobs = [scene(steps=20, seed=seed) for seed in (1, 2)]
    for job in jobs:
        job.create()
        job.train(0, 5)
    page = visit(f"/compare?jobs={jobs[0].job_id}")
    expect(page.locator("table tbody tr")).to_have_count(1)
    page.get_by_label("Jobs").click()
    page.get_by_role("option", name=jobs[1].job_id).click()
    page.keyboard.press("Escape")
    expect(page.locator("table tbody tr")).to_have_count(2)
    comes(page, lambda: drawn(page, "kl"), lambda points: points == 2 * 5)
    assert jobs[1].job_id in page.url, "the choice can be sent to others"
    page.get_by_label("Jobs").click()
    page.get_by_role("option", name=jobs[0].job_id).click()
    page.keyboard.press("Escape")
    expect(page.locator("table tbody tr")).to_have_count(1)
    jobs[1].train(5, 7)
    page.wait_for_function("document.querySelector('[data-panel=kl] canvas') !== null")
    expect(page.locator("table tbody tr")).to_contain_text(jobs[1].job_id)
    comes(page, lambda: drawn(page, "kl"), lambda points: points == 7)  # the other goes on


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Open, scene: NewScene, dark: bool) -> None:
    job = scene(steps=20, suffix="a-suffix-that-is-as-long-as-suffixes-may-be")
    job.create()
    job.train(0, 3)
    job.sample(2)
    job.staff(STAFF, 4)
    page = visit(f"/jobs/{job.job_id}", phone=True, dark=dark)
    for name in ("Drift", "Samples", "Workers & queues", "Events", "Overview"):
        page.get_by_role("tab", name=name).click()
        expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
        settle(page)
        assert shift(page) == 0, name
    for path in ("/", f"/compare?jobs={job.job_id}", "/jobs/nothing"):
        page.goto(page.url.split("/ui")[0] + "/ui" + path)
        settle(page)
        assert shift(page) == 0, path


def test_the_dark_mode_is_remembered(visit: Open, scene: NewScene) -> None:
    job = scene()
    job.create()
    page = visit(f"/jobs/{job.job_id}")
    shade = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(shade)
    page.get_by_role("button", name="Dark or light").click()
    expect(page.locator("body")).to_have_class(re.compile("body--dark"))
    page.goto(page.url.split("/jobs")[0] + "/")
    expect(page.locator("body")).to_have_class(re.compile("body--dark"))
    assert page.evaluate(shade) != light


def test_a_job_that_is_not_there_says_so(visit: Open) -> None:
    expect(visit("/jobs/ftjob-nothing").locator(".empty")).to_contain_text("There is no job ftjob-nothing")


def test_many_wrong_keys_have_to_wait(visit: Open, url: str) -> None:
    page = visit("/login", signed_in=False, allowed="401|429")
    for _ in range(4):
        assert httpx.post(f"{url}/ui/login", data={"key": "sk-guess"}).status_code == 401
    sign_in(page, url)
    expect(page.get_by_role("alert")).to_contain_text("Too many wrong keys")
    page.wait_for_timeout(2100)
    sign_in(page, url)
    expect(page.locator("h1")).to_have_text("Jobs")


@pytest.mark.parametrize("path", ["/", "/jobs/ftjob-1", "/compare", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"])
def test_nothing_answers_without_a_session(url: str, path: str) -> None:
    answer = httpx.get(f"{url}/ui{path}")
    assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/ui/login")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    forged = httpx.get(f"{url}/ui{path}", cookies={"sspo_session": "ui.aaaa.bbbb"})
    assert forged.status_code == 303


def test_the_rest_api_is_as_it_was(url: str) -> None:
    assert httpx.get(f"{url}/v1/files").status_code == 401
    assert httpx.get(f"{url}/v1/files", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert httpx.get(f"{url}/ui", follow_redirects=False).headers["location"] == "/ui/"
    assert httpx.get(f"{url}/nothing").json()["error"]["code"] == "not_found"

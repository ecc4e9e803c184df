"""`python -m tests.browser.screenshots`: the pictures of the dashboard in docs/images.

Most are of made-up jobs; those of the demo are of a real one, while it runs.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from services.disk.layout import Layout
from services.job.guard import GuardAction
from services.store.client import Client, connect
from services.store.job.jobs import Jobs
from services.store.job.record import JobError
from services.store.job.transitions import Status
from testbed.redis_server import RedisServer
from tests.browser.records import Course
from tests.browser.scene import Crew, Scene
from tests.browser.stage import KEY, chromium, new_context, serving
from tests.support.service import RunningService

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MAIN, OTHER = "ftjob-7d31c05e", "ftjob-19f2ab44"
LADDER: tuple[GuardAction, ...] = ("warn", "throttle", "lower_lr", "pause")
TOO_FAST = Course(drift=0.12, growth=2.2, ceiling=0.55)
SETTLED_MILLISECONDS = 2500

Shot = tuple[str, str, bool, bool, int | None]
"""Name, path, phone, dark, and how many pixels of the page's height (None: all)."""
SHOTS: tuple[Shot, ...] = (
    ("login", "/login", False, False, 900),
    ("jobs", "/", False, False, 560),
    ("job", f"/jobs/{MAIN}", False, False, None),
    ("job-dark", f"/jobs/{MAIN}", False, True, None),
    ("job-phone", f"/jobs/{MAIN}", True, False, 1700),
    ("alarm", f"/jobs/{OTHER}", False, False, 900),
    ("drift", f"/jobs/{OTHER}?tab=drift", False, False, None),
    ("drift-phone-dark", f"/jobs/{OTHER}?tab=drift", True, True, 1700),
    ("samples", f"/jobs/{MAIN}?tab=samples", False, False, None),
    ("workers", f"/jobs/{MAIN}?tab=flow", False, False, None),
    ("compare-dark", f"/compare?jobs={MAIN},{OTHER}", False, True, None),
)


DEMO_STEPS = 80
"""Of the demo's job, after which it is looked at."""


def main() -> None:
    """Make all pictures."""
    IMAGES.mkdir(exist_ok=True)
    of_made_up_jobs()
    of_the_demo()


def of_the_demo() -> None:
    """A real job with two engines, while it trains."""
    with tempfile.TemporaryDirectory(prefix="sspo-t") as folder:
        service = RunningService(Path(folder))
        service.prepare()
        service.start()
        try:
            job_id = service.submit(suffix="demo")
            service.scale(job_id, "rollout", 2)
            service.wait_for(job_id, lambda view: view["step"] >= DEMO_STEPS, 400)
            key = service.layout.api_key.read_text().strip()
            with chromium() as browser:
                for name, tab in (("demo", "overview"), ("demo-drift", "drift")):
                    take(browser, service.url, (name, f"/jobs/{job_id}?tab={tab}", False, False, None), key)
        finally:
            service.stop()


def of_made_up_jobs() -> None:
    """Jobs in every state, as no service shows them at once."""
    with tempfile.TemporaryDirectory(prefix="sspo-t") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        redis = RedisServer(Path(folder))
        redis.start()
        client = connect(redis.url)
        try:
            running = make_jobs(client, Layout(data))
            with serving(data, redis.url) as url, chromium() as browser:
                for shot in SHOTS:
                    for scene in running:
                        keep_alive(scene)
                    take(browser, url, shot)
        finally:
            client.close()
            redis.kill()


def make_jobs(client: Client, layout: Layout) -> list[Scene]:
    """Two jobs that run, one of which drifts too far, and some in other states."""
    for name, status, age, done in (
        ("ftjob-02c8e1aa", Status.SUCCEEDED, 260_000.0, 60),
        ("ftjob-4b90d7f2", Status.FAILED, 90_000.0, 25),
        ("ftjob-5e61f3c9", Status.PAUSED, 30_000.0, 25),
    ):
        scene = Scene(client, layout, name, steps=60, seed=len(name) + done)
        scene.create(status, age_seconds=age)
        scene.train(0, done)
        if status is Status.FAILED:
            text = "No batch came within 600 s: no rollout worker was ready"
            Jobs(client).update(name, error=JobError(code="batch_timeout", message=text))
    good = Scene(client, layout, MAIN, suffix="word-problems")
    good.create(age_seconds=260 * 5.9)
    good.train(0, 260)
    for step in (240, 250, 259):
        good.sample(step)
    good.issue(trained=416, dropped=12, waiting=24)
    good.tell(
        ("info", "Step 258/400: reward 0.742"),
        ("warn", "12 groups were dropped as stale"),
        ("info", "rollout workers wanted: 2"),
        ("error", "rollout-2 did not answer the canary and was replaced"),
        ("info", "Evaluation after step 260: reward 0.771"),
        ("info", "Step 260/400: reward 0.744"),
    )
    wild = Scene(client, layout, OTHER, suffix="high-lr", course=TOO_FAST, seed=3, guard=LADDER)
    wild.create(age_seconds=180 * 5.9)
    wild.train(0, 180)
    Scene(client, layout, "ftjob-a07715b3", steps=200).create(Status.QUEUED, age_seconds=40.0)
    return [good, wild]


def keep_alive(scene: Scene) -> None:
    """Heartbeats, and a wait that has just begun."""
    crew: Crew = [
        ("rollout-1", "rollout", "ready", 1.2),
        ("rollout-2", "rollout", "syncing", 0.4),
        ("reward-1", "reward", "ready", 0.8),
        ("learner-1", "learner", "ready", 1.0),
    ]
    scene.staff(crew, 261)
    Jobs(scene.client).update(scene.job_id, waiting_for={"what": "a batch", "since": time.time() - 2})


def take(browser: Browser, url: str, shot: Shot, key: str = KEY) -> None:
    """One picture."""
    name, path, phone, dark, height = shot
    context = new_context(browser, phone=phone, dark=dark, key=None if path == "/login" else key)
    page = context.new_page()
    page.goto(f"{url}/ui{path}")
    page.wait_for_timeout(SETTLED_MILLISECONDS)
    clip = None if height is None else {"x": 0, "y": 0, "width": _width(page), "height": height}
    picture = page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]
    colours = (
        Image.open(io.BytesIO(picture))
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    colours.save(IMAGES / f"ui-{name}.png", optimize=True)
    context.close()


def _width(page: Page) -> int:
    return page.viewport_size["width"] if page.viewport_size else 0


if __name__ == "__main__":
    main()

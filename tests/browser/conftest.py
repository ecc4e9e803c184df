"""One browser, one API process and one data folder for all tests; each test has jobs and a page of its own.

Chromium comes from the system (`make test` installs it where it may). Without it the tests are skipped, and say so;
under CI they fail instead.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from services.layout import Layout
from services.store.client import Client
from tests.browser.scene import Scene
from tests.browser.stage import CHROMIUM, KEY, chromium, new_context, serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser: skipped with the reason, or failed under CI."""
    if CHROMIUM is None and not os.environ.get("CI"):
        reason = "no Chromium on PATH: `make system-packages` as root installs it (Debian's package chromium)"
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard")


@pytest.fixture(scope="session")
def url(data: Path, redis_url: str) -> Iterator[str]:
    """The API's URL."""
    with serving(data, redis_url) as url:
        yield url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Not for the session: Playwright keeps an event loop running in this thread, beside which nobody else's starts."""
    with chromium() as browser:
        yield browser


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, url: str, client: Client) -> Iterator[Open]:
    """`visit("/jobs/ID", phone=True, dark=True)`: a page of the API without a service behind it."""
    with visiting(browser, url) as open_page:
        yield open_page


@contextmanager
def visiting(browser: Browser, url: str) -> Iterator[Open]:
    """Opens pages of the dashboard at `url`. At the end, errors in the console and requests elsewhere fail."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def heard(message: ConsoleMessage, allowed: str) -> None:
        if message.type == "error" and not re.search(allowed, message.text):
            problems.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            problems.append(f"asked {request.url}")

    def open_page(
        path: str = "/", *, phone: bool = False, dark: bool = False, signed_in: bool = True, allowed: str = "^$"
    ) -> Page:
        context = new_context(browser, phone=phone, dark=dark, signed_in=signed_in)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard(message, allowed))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", asked)
        page.goto(f"{url}/ui{path}")
        return page

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert problems == []


def sign_in(page: Page, url: str, key: str = KEY) -> None:
    """Through the form, as a person does."""
    page.goto(f"{url}/ui/login")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture
def scene(client: Client, data: Path) -> Callable[..., Scene]:
    """`scene(steps=20)`: a job with a name of its own on this Redis, not created yet."""
    return lambda **changes: Scene(client, Layout(data), f"ftjob-{secrets.token_hex(4)}", **changes)

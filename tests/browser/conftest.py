"""One browser, one API process and one data folder for all tests; each test has jobs and a page of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from services.disk.layout import Layout
from services.store.client import Client
from tests.browser.scene import Scene
from tests.browser.stage import NEEDS_CHROMIUM, Open, chromium, serving, visiting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(NEEDS_CHROMIUM)


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


@pytest.fixture
def visit(browser: Browser, url: str, client: Client) -> Iterator[Open]:
    """`visit("/jobs/ID", phone=True, dark=True)`: a page of the API without a service behind it."""
    with visiting(browser, url) as open_page:
        yield open_page


@pytest.fixture
def scene(client: Client, data: Path) -> Callable[..., Scene]:
    """`scene(steps=20)`: a job with a name of its own on this Redis, not created yet."""
    return lambda **changes: Scene(client, Layout(data), f"ftjob-{secrets.token_hex(4)}", **changes)

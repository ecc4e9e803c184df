"""A real API process and a headless Chromium, for the tests and for the screenshots.

Chromium comes from the system (`make test` installs it where it may). Without it the tests are skipped, and say so;
under CI they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    sync_playwright,
)

from services.api.ui import theme
from services.api.ui.session import COOKIE, Sessions

KEY = "sk-browser-test"
LAPTOP = ViewportSize(width=1366, height=900)
PHONE = ViewportSize(width=390, height=844)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
START_SECONDS = 40.0
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium on PATH: `make system-packages` as root installs it (Debian's package chromium)",
)
Open = Callable[..., Page]


@contextmanager
def serving(data: Path, redis_url: str) -> Iterator[str]:
    """`python -m services.api` until the block ends; yields its URL when it is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSPO_")}
    environment = {**kept, "SSPO_DATA": str(data), "SSPO_REDIS_URL": redis_url, "SSPO_API_KEY": KEY}
    command = [sys.executable, "-m", "services.api", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, cwd=data)
    try:
        _await_ready(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _await_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"{url}/readyz", timeout=5).raise_for_status()
            return
        except httpx.HTTPError:
            assert process.poll() is None and time.monotonic() < deadline, "the API did not start"
            time.sleep(0.1)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless. A container's root has no sandbox to start it in."""
    assert CHROMIUM is not None, "no Chromium on PATH; `make system-packages` as root installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


def new_context(browser: Browser, *, phone: bool = False, dark: bool = False, key: str | None = KEY) -> BrowserContext:
    """A person's browser: a screen, a mode, and the cookie of a session, unless there is no key."""
    context = browser.new_context(viewport=PHONE if phone else LAPTOP, has_touch=phone, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    give_cookie(context, theme.COOKIE, "dark" if dark else "light")
    if key is not None:
        give_cookie(context, COOKIE, Sessions(key).issue())
    return context


def give_cookie(context: BrowserContext, name: str, value: str) -> None:
    """As the dashboard sets it."""
    context.add_cookies([{"name": name, "value": value, "domain": "127.0.0.1", "path": "/ui"}])


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
        context = new_context(browser, phone=phone, dark=dark, key=KEY if signed_in else None)
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

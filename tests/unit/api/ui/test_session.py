"""Who is let in: the cookie, its age, keys that are guessed, addresses to go on to."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from services.api.ui.session import COOKIE, REFUSED_SOCKET, SESSION_SECONDS, Attempts, Guard, Sessions, local_path


def admits(sessions: Sessions, value: str) -> bool:
    return sessions.admits(Headers({"cookie": f"other=1; {COOKIE}={value}"}))


def test_a_cookie_is_good_for_its_key_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions("sk-1")
    cookie = sessions.issue()
    assert admits(sessions, cookie)
    assert admits(Sessions("sk-1"), cookie), "another process of the same service"
    assert not admits(Sessions("sk-2"), cookie), "a new key ends all sessions"
    other = sessions.issue()
    sessions.end(Headers({"cookie": f"{COOKIE}={cookie}"}))
    assert not admits(sessions, cookie) and admits(sessions, other), "who signs out ends his own session"
    for variant in (cookie[:-1] + letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        assert not admits(sessions, variant), "an ended session, its signature written in another way"
    # Not the last character, some of whose bits belong to no byte.
    assert not admits(sessions, other[:-2] + ("A" if other[-2] != "A" else "B") + other[-1])
    assert not sessions.admits(Headers({}))
    assert "sk-1" not in cookie
    later = time.time() + SESSION_SECONDS + 2
    monkeypatch.setattr(time, "time", lambda: later)
    assert not admits(sessions, other)


def test_nothing_is_sent_to_a_page_whose_session_has_ended() -> None:
    sessions, sent = Sessions("sk-1"), []
    headers = Headers({"cookie": f"{COOKIE}={sessions.issue()}"})

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        for text in ("before", "after", "and again"):
            await send({"type": "websocket.send", "text": text})
            sessions.end(headers)

    async def send(message: Message) -> None:
        sent.append(message.get("text", message.get("code")))

    async def receive() -> Message:
        raise AssertionError("a page that only listens")

    scope = {"type": "websocket", "path": "/ui/_nicegui_ws/", "root_path": "/ui", "headers": headers.raw}
    asyncio.run(Guard(page, sessions)(scope, receive, send))
    assert sent == ["before", REFUSED_SOCKET]


@pytest.mark.parametrize(("given", "right"), [("sk-1", True), ("sk-", False), ("", False), ("sk-1é", False)])
def test_only_the_key_is_the_key(given: str, right: bool) -> None:
    assert Sessions("sk-1").is_key(given) is right


def test_wrong_keys_cost_ever_more_time_and_a_right_one_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("services.api.ui.session.time.monotonic", lambda: now)
    attempts = Attempts()
    waits = []
    for _ in range(12):
        waits.append(attempts.wait_seconds("a"))
        attempts.failed("a")
        now += attempts.wait_seconds("a")
    attempts.failed("a")
    assert attempts.wait_seconds("a") == 60
    assert attempts.wait_seconds("b") == 0
    now += 59.5
    assert attempts.wait_seconds("a") == 1
    attempts.succeeded("a")
    assert attempts.wait_seconds("a") == 0


def test_addresses_are_not_remembered_without_end() -> None:
    attempts = Attempts()
    for number in range(5000):
        attempts.failed(str(number))
    assert len(attempts._wrong) <= 1024


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/jobs/ftjob-1", "/jobs/ftjob-1"),
        ("/compare", "/compare"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("jobs", "/"),
        ("/login", "/"),
        ("", "/"),
    ],
)
def test_after_the_login_one_stays_here(wanted: str, path: str) -> None:
    assert local_path(wanted) == path

"""The session of the dashboard: a visitor gives the API key once and gets a signed cookie.

Invariants: only the login page answers without the cookie; websockets need it too. An open page ends with its session.
The cookie holds the time of its signature and a random id. Its secret is derived from the API key, so a new key ends
all sessions. The key itself is in no URL, log, cookie or file.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "sspo_session"
SESSION_SECONDS = 12 * 3600
LOGIN = "/login"
FREE_ATTEMPTS = 3
LONGEST_PAUSE_SECONDS = 60.0
REMEMBERED_ADDRESSES = 1024
REFUSED_SOCKET = 4401
CLOSE = {"type": "websocket.close", "code": REFUSED_SOCKET}
SECURITY = {
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
"""A page may ask this host only. NiceGUI's pages are scripts in the page and templates compiled in the browser."""
SOCKET = "/_nicegui_ws"
"""The path of the page's connection; it is a websocket or plain requests."""
VERSIONED = "/_nicegui/"
CACHED = "private, max-age=31536000, immutable"


class Sessions:
    """Signs and reads the cookie, and knows the key."""

    def __init__(self, api_key: str) -> None:
        secret = hmac.new(api_key.encode(), b"sspo dashboard session", hashlib.sha256).digest()
        self._signer = TimestampSigner(secret, salt=COOKIE, digest_method=hashlib.sha256)
        self._api_key = api_key.encode()
        self._ended: OrderedDict[str, float] = OrderedDict()
        """Sessions that were signed out → the moment from which they are too old anyway."""

    def is_key(self, given: str) -> bool:
        """Whether this is the key, in constant time."""
        return hmac.compare_digest(given.encode(), self._api_key)

    def issue(self) -> str:
        """A new cookie's value."""
        return self._signer.sign(secrets.token_urlsafe(12)).decode()

    def end(self, headers: Headers) -> None:
        """Sign out: the cookie is no longer admitted, and pages that are open with it end. Known to this process."""
        session, now = self._session(headers), time.time()
        if session is not None:
            self._ended[session] = now + SESSION_SECONDS
        while self._ended and next(iter(self._ended.values())) < now:
            self._ended.popitem(last=False)

    def admits(self, headers: Headers) -> bool:
        """Whether a request carries a cookie that we signed and that is not too old."""
        session = self._session(headers)
        return session is not None and session not in self._ended

    def _session(self, headers: Headers) -> str | None:
        """The signed text, unless it is too old. A cookie is no identity: one signature has many spellings."""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
            return None if morsel is None else self._signer.unsign(morsel.value, max_age=SESSION_SECONDS).decode()
        except (BadSignature, CookieError):
            return None


@dataclass
class Attempts:
    """Slows down guessing: after a few wrong keys an address has to wait, twice as long each time."""

    _wrong: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)
    """Address → wrong keys in a row, and when it may try again."""

    def wait_seconds(self, address: str) -> int:
        """How long this address must wait before its next try; 0: it may try."""
        _, until = self._wrong.get(address, (0, 0.0))
        return max(0, math.ceil(until - time.monotonic()))

    def failed(self, address: str) -> None:
        """Count a wrong key."""
        count = self._wrong.pop(address, (0, 0.0))[0] + 1
        pause = min(2.0 ** (count - FREE_ATTEMPTS), LONGEST_PAUSE_SECONDS) if count > FREE_ATTEMPTS else 0.0
        self._wrong[address] = (count, time.monotonic() + pause)
        while len(self._wrong) > REMEMBERED_ADDRESSES:
            self._wrong.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget the wrong ones."""
        self._wrong.pop(address, None)


class Guard:
    """Plain ASGI around the mounted dashboard: sends everybody without the cookie to the login page."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, root = Headers(scope=scope), scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        admitted = path == LOGIN or self._sessions.admits(headers)
        if scope["type"] == "websocket":
            if admitted and _same_origin(headers):
                await self._socket(headers, scope, receive, send)
            else:
                await send(CLOSE)
            return

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.update(SECURITY)
                if path.startswith(VERSIONED) and message["status"] == 200:
                    answer["cache-control"] = CACHED
            await send(message)

        asks_to_act = scope["method"] not in ("GET", "HEAD") or path.startswith(SOCKET)
        if admitted and asks_to_act and not _same_origin(headers):
            await PlainTextResponse("another site's page", status_code=403)(scope, receive, send_safe)
        elif admitted:
            await self._serve(scope, receive, send_safe)
        else:
            wanted = f"?next={quote(path)}" if scope["method"] == "GET" and path != "/" else ""
            await RedirectResponse(f"{root}{LOGIN}{wanted}", status_code=303)(scope, receive, send_safe)

    async def _socket(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        """With its session a page ends: it says and hears something every few seconds, if only that it lives."""
        closed = False

        async def still_admitted() -> bool:
            nonlocal closed
            if not closed and not self._sessions.admits(headers):
                closed = True
                await send(CLOSE)
            return not closed

        async def receive_admitted() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive" or await still_admitted():
                return message
            return {"type": "websocket.disconnect", "code": REFUSED_SOCKET}

        async def send_admitted(message: Message) -> None:
            if await still_admitted():
                await send(message)

        await self._app(scope, receive_admitted, send_admitted)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """NiceGUI's own middlewares take it for a crash when a browser goes away before it has its answer."""
        gone = False

        async def receive_noted() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        try:
            await self._app(scope, receive_noted, send)
        except RuntimeError as error:
            if gone:
                raise ClientDisconnect from error
            raise


def local_path(wanted: str) -> str:
    """The address after the login: always a page of ours, whatever the request asked for."""
    parts = urlsplit(wanted)
    foreign = parts.scheme or parts.netloc or not wanted.startswith("/") or "\\" in wanted or wanted.startswith("//")
    return "/" if foreign or parts.path.startswith((LOGIN, VERSIONED)) else wanted


def _same_origin(headers: Headers) -> bool:
    """Browsers send cookies with websockets of other sites' pages, and say whose page it is."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")

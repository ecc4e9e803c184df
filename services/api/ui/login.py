"""The login page. It is plain HTML, so a visitor without the key never opens a websocket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from services.api.ui.html import TEMPLATES
from services.api.ui.session import COOKIE, LOGIN, SESSION_SECONDS, Attempts, Sessions, local_path

WRONG_KEY_SECONDS = 0.5
"""How long a wrong key takes at least."""
PAGE = TEMPLATES.from_string((Path(__file__).parent / "static" / "login.html").read_text())


def login_router(sessions: Sessions) -> APIRouter:
    """GET and POST /login, POST /logout."""
    router, attempts = APIRouter(include_in_schema=False), Attempts()

    @router.get(LOGIN)
    def ask(next: str = "/") -> HTMLResponse:
        return _page(next)

    @router.post(LOGIN)
    async def answer(request: Request) -> Response:
        form = await request.form()
        given, wanted = str(form.get("key", "")).strip(), local_path(str(form.get("next", "/")))
        address = request.client.host if request.client else ""
        wait = attempts.wait_seconds(address)
        if wait:
            text = f"Too many wrong keys from this address. Try again in {wait} seconds."
            return _page(wanted, text, status=429, headers={"retry-after": str(wait)})
        if not sessions.is_key(given):
            attempts.failed(address)
            await asyncio.sleep(WRONG_KEY_SECONDS)
            return _page(wanted, "This is not the API key. It lies in the file api-key of the data folder.", status=401)
        attempts.succeeded(address)
        entered = RedirectResponse(request.scope["root_path"] + wanted, status_code=303)
        secure = request.url.scheme == "https"
        entered.set_cookie(
            COOKIE, sessions.issue(), max_age=SESSION_SECONDS, path="/ui", httponly=True, samesite="lax", secure=secure
        )
        return entered

    @router.post("/logout")
    def leave(request: Request) -> RedirectResponse:
        sessions.end(request.headers)
        left = RedirectResponse(request.scope["root_path"] + LOGIN, status_code=303)
        left.delete_cookie(COOKIE, path="/ui")
        return left

    return router


def _page(wanted: str, problem: str = "", *, status: int = 200, headers: dict[str, str] | None = None) -> HTMLResponse:
    content = PAGE.render(next=local_path(wanted), problem=problem)
    return HTMLResponse(content, status, {"cache-control": "no-store", **(headers or {})})

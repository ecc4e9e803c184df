"""Layers around every request, outermost first: request id, timing and the last catch; the key; the body's size.

They are plain ASGI, so streams pass through and the key is checked before a body is read.
"""

from __future__ import annotations

import hmac
import secrets
import time

import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.errors import ApiError, to_response

log = structlog.get_logger()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestBoundary:
    """Gives each answer an `x-request-id`, times it, and answers 500 with the envelope for what nobody expected."""

    def __init__(self, app: ASGIApp, duration_seconds: Histogram) -> None:
        self._app = app
        self._duration_seconds = duration_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(16)}"
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_marked)
            except ClientDisconnect:
                log.info("client_went_away", method=scope["method"], path=scope["path"])
            except Exception:  # the API's one boundary: logged, and answered as a 500
                log.exception("request_crashed", method=scope["method"], path=scope["path"])
                if status:  # the answer is under way: the server must cut it short
                    raise
                error = ApiError(500, f"Internal error; the log names it by {request_id}", code="internal_error")
                await to_response(error)(scope, receive, send_marked)
            finally:
                self._observe(scope, status, time.perf_counter() - started)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._duration_seconds.labels(method, route, str(status)).observe(seconds)


class BearerKey:
    """Refuses requests under /v1 that lack the key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._expected = f"Bearer {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] == "/v1" or scope["path"].startswith("/v1/")):
            given = Headers(scope=scope).get("authorization", "")
            if not hmac.compare_digest(given.encode(), self._expected):
                await to_response(_refusal(given))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refusal(given: str) -> ApiError:
    message = "Incorrect API key" if given else "Missing API key: send 'Authorization: Bearer KEY'"
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


class BodyLimit:
    """Stops reading a body at its limit; uploads have a higher one."""

    def __init__(self, app: ASGIApp, json_bytes: int, upload_bytes: int, upload_path: str) -> None:
        self._app = app
        self._json_bytes = json_bytes
        self._upload_bytes = upload_bytes
        self._upload_path = upload_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._upload_bytes if scope["path"] == self._upload_path else self._json_bytes
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            await to_response(_too_large(limit))(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, _too_large(limit).message)
            return message

        await self._app(scope, receive_counted, send)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413, f"The body is larger than {limit} bytes", code="payload_too_large", headers={"connection": "close"}
    )

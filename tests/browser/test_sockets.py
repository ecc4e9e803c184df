"""Sockets of the dashboard, by either transport: only with the cookie, and only for its own pages."""

from __future__ import annotations

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from services.api.ui.session import COOKIE, REFUSED_SOCKET, Sessions
from tests.browser.stage import KEY

PATH = "/ui/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


def open_socket(url: str, *, cookie: str | None = None, origin: str | None = None) -> str:
    """The server's first message."""
    headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
    address = url.replace("http", "ws", 1) + PATH
    with connect(address, additional_headers=headers, origin=origin, open_timeout=10) as socket:  # type: ignore[arg-type]
        return str(socket.recv(10))


def test_a_socket_with_a_session_is_opened(url: str) -> None:
    assert open_socket(url, cookie=Sessions(KEY).issue(), origin=url).startswith("0{")


def test_an_open_socket_ends_with_its_session(url: str) -> None:
    mine, other = ({"Cookie": f"{COOKIE}={Sessions(KEY).issue()}"} for _ in range(2))
    address = url.replace("http", "ws", 1) + PATH
    with connect(address, additional_headers=mine) as socket, connect(address, additional_headers=other) as kept:
        for one in (socket, kept):
            assert str(one.recv(10)).startswith("0{")
            one.send("40")  # Socket.IO: join the namespace
            assert str(one.recv(10)).startswith("40")
        assert httpx.post(f"{url}/ui/logout", headers=mine).headers["location"] == "/ui/login"
        socket.send("3")  # as a page answers a ping
        with pytest.raises(ConnectionClosed) as ended:
            while socket.recv(10) == "2":  # the server's pings
                pass
        assert ended.value.rcvd is not None and ended.value.rcvd.code == REFUSED_SOCKET
        kept.send('42["nobody listens"]')
        assert kept.ping().wait(10), "the other is still open"
    with pytest.raises(InvalidStatus):
        connect(address, additional_headers=mine)


@pytest.mark.parametrize(
    ("cookie", "origin"),
    [
        (None, None),
        ("ui.aaaa.bbbb", None),
        (Sessions("sk-other").issue(), None),
        (Sessions(KEY).issue(), "http://evil"),
    ],
    ids=["none", "forged", "of another key", "from another page"],
)
def test_others_are_refused(url: str, cookie: str | None, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(url, cookie=cookie, origin=origin)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(("origin", "status"), [(None, 200), ("own", 200), ("http://evil", 403)])
def test_polling_is_as_closed_as_a_socket(url: str, origin: str | None, status: int) -> None:
    headers = {"Cookie": f"{COOKIE}={Sessions(KEY).issue()}"}
    if origin:
        headers["Origin"] = url if origin == "own" else origin
    answer = httpx.get(url + PATH.replace("=websocket", "=polling"), headers=headers)
    assert answer.status_code == status


def test_another_sites_form_changes_nothing(url: str) -> None:
    headers = {"Cookie": f"{COOKIE}={Sessions(KEY).issue()}", "Origin": "http://evil"}
    assert httpx.post(f"{url}/ui/logout", headers=headers).status_code == 403

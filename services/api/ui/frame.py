"""Parts that all pages share: the bar at the top, the notice when the store is away, and the looks that arrive
unasked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from services.api.ui.theme import Theme
from services.api.ui.watch import Following, T, Watch

LOGO = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" fill="#0072B2"/>'
    '<path d="M4 25C13 25 12 7 28 7" fill="none" stroke="#fff" stroke-width="3.4" stroke-linecap="round"/></svg>'
)
FAVICON = LOGO.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
BRAND = Markup('<a class="brand" href="{}/">' + LOGO + "<span>SSPO</span></a>")
LINK = Markup('<a class="nav {}" href="{}{}">{}</a>')
SIGN_OUT = Markup(
    '<form method="post" action="{}/logout"><button class="icon-button" aria-label="Sign out" title="Sign out">'
    '<i class="material-icons" style="font-size:20px">logout</i></button></form>'
)
PAGES = {"Jobs": "/", "Compare": "/compare"}
STYLE = (Path(__file__).parent / "static" / "style.css").read_text()
SCRIPT = (Path(__file__).parent / "static" / "page.js").read_text()
AWAY = "The store can't be read: what you see may be old. Trying again."


class Frame:
    """The frame of one page; its content goes into `main`."""

    def __init__(self, request: Request, here: str, title: str) -> None:
        ui.page_title(f"{title} · SSPO")
        root = request.scope.get("root_path", "")
        ui.add_head_html(f"<style>{STYLE}</style><script>{SCRIPT}</script>")
        self.theme = Theme(request)
        with ui.element("header").classes("bar"):
            ui.html(BRAND.format(root), sanitize=False)
            links = (LINK.format("here" if name == here else "", root, path, name) for name, path in PAGES.items())
            ui.html("".join(links), sanitize=False)
            ui.element("div").classes("space")
            switch = ui.element("button").classes("icon-button").props('type="button" aria-label="Dark or light"')
            with switch.on("click", self.theme.switch):
                ui.icon("contrast", size="20px")
            ui.html(SIGN_OUT.format(root), sanitize=False)
        self._away = ui.label(AWAY).classes("away").props('role="status"')
        self._away.set_visibility(False)
        self.main = ui.element("main").classes("page")
        self._following = Following()
        client = ui.context.client
        if client.has_socket_connection:
            self._following.join()
        client.on_connect(self._following.join)
        client.on_disconnect(self._following.leave)
        client.on_delete(self._following.leave)
        ui.on("seen", lambda event: self._following.join() if event.args else self._following.leave())

    def watch(self, watch: Watch[T], draw: Callable[[T], None]) -> Callable[[], None]:
        """Call `draw` with each new look, as long as the page is connected and to be seen. Answers how to end it."""
        client = ui.context.client

        def listener(look: T | None) -> None:
            client.safe_invoke(lambda: self._show(look, draw))  # one page's mistake is not the others'

        return self._following.add(watch, listener)

    def _show(self, look: T | None, draw: Callable[[T], None]) -> None:
        self._away.set_visibility(look is None)
        if look is not None:
            draw(look)

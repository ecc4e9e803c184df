"""Dark or light: a switch chooses, and a cookie of its own remembers the choice and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui
from starlette.requests import Request

from services.api.ui.palette import Palette, palette

COOKIE = "sspo_theme"
REMEMBERED_SECONDS = 365 * 24 * 3600


class Theme:
    """The mode of one page."""

    def __init__(self, request: Request) -> None:
        self._mode = ui.dark_mode(request.cookies.get(COOKIE) == "dark")
        self.on_change: Callable[[], None] = lambda: None

    @property
    def palette(self) -> Palette:
        return palette(bool(self._mode.value))

    def switch(self) -> None:
        """The other mode, now and on the next page."""
        self._mode.value = not self._mode.value
        name = "dark" if self._mode.value else "light"
        ui.run_javascript(f'document.cookie = "{COOKIE}={name}; path=/ui; max-age={REMEMBERED_SECONDS}; samesite=lax"')
        self.on_change()

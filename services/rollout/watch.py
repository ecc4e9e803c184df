"""Asks about once a second, beside the work, whether the engine still turns."""

from __future__ import annotations

import asyncio
import time

from services.rollout.engine import Engine, EngineBroken

STALL_SECONDS = 60.0
"""An engine whose loop has not turned for so long is hung. A step of a slow machine takes seconds."""


class EngineWatch:
    """One check at a time; `alive_at` is when the last one was answered (monotonic seconds)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._check: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self.alive_at = 0.0

    def look(self) -> None:
        """Note an answer, ask again. Raises EngineBroken for an engine that is dead or hung."""
        now = time.monotonic()
        if self._check is not None and self._check.done():
            self._check.result()
            self._check, self.alive_at = None, now
        if self._check is None:
            self._check, self._asked_at = asyncio.create_task(self._engine.check()), now
        elif now - self._asked_at > STALL_SECONDS:
            raise EngineBroken(f"the engine has not answered for {STALL_SECONDS:.0f} s")

    async def stop(self) -> None:
        """Forget an open question."""
        check, self._check = self._check, None
        if check is not None:
            check.cancel()
            await asyncio.wait({check})

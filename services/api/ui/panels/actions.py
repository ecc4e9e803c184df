"""The buttons of a job: pause, resume, cancel, scale. They make the same calls as the REST routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nicegui import ui

from services.api.dependencies import Service
from services.api.ui.job_reading import JobLook
from services.records.worker import SCALED_KINDS, ScaledKind
from services.store.client import StoreError
from services.store.job.jobs import JobNotFound
from services.store.job.transitions import CANCEL, PAUSE, RESUME, Action, IllegalTransition

BY = "dashboard"
MOST_WORKERS = 256


@dataclass(frozen=True)
class _Wish:
    action: Action
    label: str
    question: str
    look: str = ""


WISHES = (
    _Wish(PAUSE, "Pause", "The workers finish their groups, a checkpoint is written, the workers go. Nothing is lost."),
    _Wish(RESUME, "Resume", "The job goes on where it stood, a failed one from its last checkpoint.", "main"),
    _Wish(CANCEL, "Cancel", "This ends the job for good. What is trained stays; it can't be resumed.", "danger"),
)


async def _ask_store(call: Callable[[], object], done: str) -> bool:
    """Change something in a thread; tell what came of it."""
    try:
        await asyncio.to_thread(call)
    except (IllegalTransition, JobNotFound, StoreError) as error:
        ui.notify(f"Not done: {error}", type="negative", position="top")
        return False
    ui.notify(done, type="positive", position="top")
    return True


class Actions:
    """The buttons of one job; each asks before it does anything."""

    def __init__(self, service: Service, job_id: str, hurry: Callable[[], None]) -> None:
        self._service = service
        self._job_id = job_id
        self._hurry = hurry
        self._buttons = {}
        with ui.element("div").classes("actions"):
            for wish in WISHES:
                button = ui.button(wish.label, on_click=lambda wish=wish: self._confirm(wish), color=None)
                self._buttons[wish.label] = button.props("flat no-caps").classes(f"button {wish.look}")
                button.set_visibility(False)

    def draw(self, look: JobLook) -> None:
        """Offer what is possible now."""
        for wish in WISHES:
            possible = look.record.status in wish.action.moves
            self._buttons[wish.label].set_visibility(possible)

    async def _confirm(self, wish: _Wish) -> None:
        with ui.dialog() as dialog, ui.card().classes("ask"):
            ui.label(f"{wish.label} this job?").style("font-weight: 600; font-size: 16px")
            ui.label(wish.question).classes("muted")
            with ui.element("div").classes("actions").style("align-self: flex-end"):
                no = ui.button("No, go back", on_click=lambda: dialog.submit(False), color=None)
                no.props("flat no-caps").classes("button")
                yes = ui.button(f"Yes, {wish.label.lower()}", on_click=lambda: dialog.submit(True), color=None)
                yes.props("flat no-caps").classes(f"button {wish.look or 'main'}")
        sure = await dialog
        dialog.delete()
        if sure:
            await _ask_store(
                lambda: self._service.jobs.act(self._job_id, wish.action, by=BY), f"{wish.label}: the job was told"
            )
            self._hurry()


class Scaling:
    """Wanted workers of both kinds, with less and more."""

    def __init__(self, service: Service, job_id: str, hurry: Callable[[], None]) -> None:
        self._service = service
        self._job_id = job_id
        self._hurry = hurry
        self._wanted: dict[ScaledKind, int] = {}
        self._labels: dict[ScaledKind, ui.label] = {}
        self._buttons: list[ui.button] = []
        with ui.element("div").classes("scale-row"):
            for kind in SCALED_KINDS:
                self._control(kind)

    def _control(self, kind: ScaledKind) -> None:
        with ui.element("div").classes("scale").props(f'data-scale="{kind}"'):
            ui.label(f"{kind.capitalize()} workers wanted").classes("muted")
            for change, icon in ((-1, "remove"), (0, ""), (1, "add")):
                if change == 0:
                    self._labels[kind] = ui.label("–").classes("wanted")
                    continue
                name = f"{'Fewer' if change < 0 else 'More'} {kind} workers"
                button = ui.button(icon=icon, on_click=lambda k=kind, c=change: self._change(k, c), color=None)
                button.props(f'flat dense size="sm" aria-label="{name}"').classes("button")
                self._buttons.append(button)

    def draw(self, look: JobLook) -> None:
        """Show what is wanted now."""
        self._wanted = {"rollout": look.record.rollout_workers, "reward": look.record.reward_workers}
        for kind, label in self._labels.items():
            ready = sum(worker.kind == kind and worker.up for worker in look.workers)
            label.text = f"{self._wanted[kind]} ({ready} ready)"
        for button in self._buttons:
            button.set_enabled(not look.ended or look.record.status in RESUME.moves)

    async def _change(self, kind: ScaledKind, change: int) -> None:
        replicas = min(MOST_WORKERS, max(0, self._wanted.get(kind, 0) + change))
        text = f"{kind.capitalize()} workers wanted: {replicas}"
        scaled = await _ask_store(lambda: self._service.operations.scale(self._job_id, kind, replicas, by=BY), text)
        if scaled:
            self._wanted[kind] = replicas
        self._hurry()

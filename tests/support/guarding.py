"""Jobs whose guard acts at once, and what they leave behind, for tests of a guard in a real learner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.disk.layout import Layout
from services.job.guard import GuardSpec
from services.job.spec import JobSpec
from services.journal.journal import Journal
from services.learner.loop import Learner
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.transitions import Status
from services.trajectories.progress import Progress
from tests.support.tiny import job_spec

STEPS = 4


def guarded(job_id: str, *actions: str, guard: dict[str, Any] | None = None, **learner: Any) -> JobSpec:
    """A job of four steps whose guard acts after every step that is beyond k3 = 0.5."""
    limits = {"window_steps": 1, "cooldown_steps": 1, "kl_k3": {"enter": 0.5, "leave": 0.4}, "reward_share": None}
    open_limits = dict.fromkeys(("ess_token", "ess_sequence", "outside_band_ratio", "mismatch_kl_k3"))
    block = {"actions": actions, **limits, **open_limits, **(guard or {})}
    settings = {"checkpoint_every": 1, "updates_per_step": 2, "max_staleness": 8, "wait_seconds": 15.0, **learner}
    spec = job_spec(job_id, steps=STEPS, **settings)
    return spec.model_copy(update={"guard": GuardSpec.model_validate(block)})


def settings(layout: Layout, spec: JobSpec) -> list[dict[str, Any]]:
    """What the records of trained steps say of the learner's settings."""
    headers = [header for header in Journal(layout.job(spec.job_id).journal).headers() if header.kind == "step"]
    return [header.settings["learner"] for header in headers]


def warnings(client: Client, spec: JobSpec) -> list[str]:
    return [event.message for event in Events(client).list(spec.job_id)[0] if event.level == "warn"][::-1]


def enter(client: Client, spec: JobSpec, *statuses: Status) -> None:
    for status in statuses:
        Jobs(client).transition(spec.job_id, status, by="test")


def kinds(layout: Layout, spec: JobSpec) -> list[str]:
    return [header.kind for header in Journal(layout.job(spec.job_id).journal).headers()]


def heal_after_rollback(learner: Learner, drifts: dict[int, float]) -> None:
    """What caused the drift is over once training has gone back."""
    rollback = learner.returning.roll_back

    def heals(*about: Any, **more: Any) -> None:
        rollback(*about, **more)
        drifts.clear()

    learner.returning.roll_back = heals  # type: ignore[method-assign]


def windows_of(learner: Learner, client: Client, spec: JobSpec) -> Sequence[int | None]:
    """The staleness window that the dispatcher sees after every step, as the learner runs."""
    seen: list[int | None] = []
    obey = learner.obey

    def looks(action: Any) -> None:
        seen.append(Progress(client).read(spec.job_id).staleness_window)
        obey(action)

    learner.obey = looks  # type: ignore[method-assign]
    return seen

"""The guard in the learner. A decision becomes a setting of the next record, or an act between two steps.

Window and state are written into the settings of every record and of a rollback, so a learner that starts again knows
what its predecessor knew. A record is trained with the settings written in it, so a replay gives the same bits whatever
the guard does later. A throttle limits how far groups are issued ahead. Groups already under way are trained, since
dropping them would waste them.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from services.drift.guard import (
    Decision,
    Figures,
    GuardState,
    checkpointed,
    decide,
    nowhere_to_go,
    rolled_back,
)
from services.job.spec import JobSpec, LearnerSpec
from services.job.strict_json import JsonObject
from services.learner.training import settings_of
from services.records.step import StepFigures
from services.store.client import Client
from services.store.job.events import Events, Level
from services.store.job.jobs import Jobs
from services.store.job.transitions import PAUSE, IllegalTransition
from services.trajectories.progress import Progress

log = structlog.get_logger()

BY = "guard"


class GuardMemory(BaseModel):
    """The memory of the guard after a step: the part of a record's settings under "guard"."""

    model_config = ConfigDict(frozen=True)

    window: tuple[Figures, ...] = ()
    """The newest steps, oldest first."""
    state: GuardState = GuardState()
    """What it has done and found."""

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> GuardMemory:
        """The memory in a record; empty if there is none, or if a version with another guard wrote it."""
        try:
            return cls.model_validate(settings.get("guard", {}))
        except ValidationError as error:
            log.warning("guard_state_unknown", reason=str(error.errors()[0]["loc"]))
            return cls()


class Guarding:
    """Watches one job's steps for as long as its learner lives."""

    def __init__(self, spec: JobSpec, client: Client) -> None:
        self._spec = spec
        self._progress = Progress(client)
        self._events = Events(client)
        self._jobs = Jobs(client)
        self.memory = GuardMemory()

    @property
    def on(self) -> bool:
        return bool(self._spec.guard.actions)

    @property
    def may_roll_back(self) -> bool:
        """Whether checkpoints are for more than a restart."""
        return "rollback" in self._spec.guard.actions

    @property
    def healthy(self) -> tuple[int, ...]:
        """Steps of healthy checkpoints; a rollback goes to the newest of them that is kept. Empty without rollbacks."""
        return (self.memory.state.healthy or (0,)) if self.may_roll_back else ()

    def settings(self) -> JsonObject:
        """Settings for the next record: those in effect, and the memory of the guard."""
        return settings_of(in_effect(self._spec, self.memory.state)) | self._own()

    def begin(self) -> None:
        """Begin a job without a record."""
        if self.may_roll_back:
            self.memory = GuardMemory(state=checkpointed(self.memory.state, 0))

    def recall(self, settings: Mapping[str, object]) -> None:
        """Take over the memory of the earlier learner, from the settings of its newest record."""
        self.memory = GuardMemory.of(settings)

    def take_up(self, settings: Mapping[str, object], step: int, figures: StepFigures) -> Decision:
        """Decide once more after a step whose record has these settings.

        No action is repeated. A rollback that was cut off is decided again after the next step, and a pause that nobody
        asked for yet is asked for.
        """
        self.memory = GuardMemory.of(settings)
        return self._advance(step, figures)

    def look(self, step: int, figures: StepFigures) -> Decision:
        """Decide after a step was trained."""
        decision = self._advance(step, figures)
        self.tell(step, decision)
        self.announce()
        return decision

    def announce(self) -> None:
        """Tell the dispatcher how far ahead it may issue."""
        learner = in_effect(self._spec, self.memory.state).learner
        window = None if learner.max_staleness == self._spec.learner.max_staleness else learner.max_staleness
        self._progress.set(self._spec.job_id, staleness_window=window)

    def roll_back(self, to_step: int) -> JsonObject:
        """Note that training goes back; answers the settings of the rollback's record."""
        self.memory = GuardMemory(state=rolled_back(self.memory.state, to_step, self._spec.guard))
        self.announce()
        return self._own()

    def stay(self) -> None:
        """Note that no healthy checkpoint is kept: the rung is left out."""
        self._say("The guard would go back, but no healthy checkpoint is kept", {"action": "rollback"})
        self.memory = self.memory.model_copy(update={"state": nowhere_to_go(self.memory.state, self._spec.guard)})

    def pause(self) -> None:
        """Ask for a pause, as a person would."""
        try:
            self._jobs.act(self._spec.job_id, PAUSE, by=BY, message="The guard pauses the job: see its last warnings")
        except IllegalTransition as error:  # a person was faster, for example with a cancel
            log.info("pause_refused", current=str(error.current))

    def runs_since_before(self, moment: float) -> bool:
        """Whether nobody has paused and resumed the job since then (seconds since the epoch)."""
        return self._jobs.get(self._spec.job_id).running_since <= moment

    def tell(self, step: int, decision: Decision) -> None:
        """Say what was decided after a step, if anything was."""
        if decision.action is not None:
            because = "; ".join(str(reason) for reason in decision.reasons)
            said = {"action": decision.action, **decision.view().plain()}
            self._say(f"Guard, step {step + 1}: {decision.action}, because {because}", said)
        elif decision.calmed:
            self._say(f"Guard, step {step + 1}: the alarm is over", decision.view().plain(), level="info")

    def _own(self) -> JsonObject:
        return {"guard": self.memory.model_dump()} if self.on else {}

    def _advance(self, step: int, figures: StepFigures) -> Decision:
        guard, learner = self._spec.guard, self._spec.learner
        if not self.on:
            return Decision(self.memory.state)
        window = (*self.memory.window, Figures.of(step, figures))[-guard.window_steps :]
        decision = decide(window, self.memory.state, guard)
        state = decision.state
        if decision.healthy and (step + 1) % learner.checkpoint_every == 0:
            state = checkpointed(state, step + 1)
        self.memory = GuardMemory(window=() if decision.action == "pause" else window, state=state)
        return decision

    def _say(self, text: str, data: Mapping[str, object], *, level: Level = "warn") -> None:
        self._events.add(self._spec.job_id, text, level=level, data={"guard": data})


def in_effect(spec: JobSpec, state: GuardState) -> JobSpec:
    """The job with what the guard has changed."""
    learner = spec.learner
    changes: JsonObject = {}
    if state.learning_rate_factor < 1.0:
        changes["learning_rate"] = learner.learning_rate * state.learning_rate_factor
    if state.throttled:
        changes |= {
            "max_staleness": learner.max_staleness // 2,
            "updates_per_step": max(1, learner.updates_per_step // 2),
        }
    if state.syncing:
        changes["max_staleness"] = 0
    return spec.model_copy(update={"learner": _changed(learner, changes)}) if changes else spec


def _changed(learner: LearnerSpec, changes: JsonObject) -> LearnerSpec:
    return LearnerSpec.model_validate(learner.model_dump() | changes)

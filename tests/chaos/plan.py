"""What is done to a running service, in which order: a pure function of the seed.

A full plan holds every template as often as it says; a smaller one holds as many as asked for, drawn from them. The
moments are the seed's: how long after the service has recovered from the event before, or whether it waits at all.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise


class Victim(StrEnum):
    """Every kind of process of the service."""

    ROLLOUT = "rollout"
    ENGINE = "engine"
    REWARD = "reward"
    LEARNER = "learner"
    CONTROLLER = "controller"
    API = "api"
    GRADER = "grader"
    REDIS = "redis"
    RAY = "ray"


class Action(StrEnum):
    """How a victim is hit: from outside at a random moment, by itself at a named point, or in its memory."""

    KILL = "kill"
    STOP = "stop"
    FAULT = "fault"
    CUT = "cut"


@dataclass(frozen=True)
class Event:
    """One thing that is done to the service."""

    action: Action
    victim: Victim
    point: str = ""
    """Fault point; of a Ray head, which of its processes."""
    hold_seconds: float = 0.0
    """Of a stop: SIGCONT comes so much later."""
    commits: int = 0
    """Of a cut: how many commits it takes away; 0 cuts the last few commands."""
    pause_seconds: float = field(default=0.0, compare=False)
    after: int = field(default=0, compare=False)
    """Passes of the fault point that it lets go by."""
    waits: bool = field(default=True, compare=False)
    """Whether the next event comes only after the service has recovered from this one."""

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.action} {self.victim}" + (f" {self.point}" if self.point else "")


def _kill(victim: Victim, times: int) -> list[Event]:
    return [Event(Action.KILL, victim)] * times


def _stop(victim: Victim, *hold_seconds: float) -> list[Event]:
    return [Event(Action.STOP, victim, hold_seconds=seconds) for seconds in hold_seconds]


def _fault(victim: Victim, point: str, times: int) -> list[Event]:
    return [Event(Action.FAULT, victim, point)] * times


LEASE_SECONDS = 30.0
"""The longest lease of a group: a worker that stops for longer finds its groups taken over."""

SILENCE_SECONDS = 150.0
"""A worker that stops for so long is taken for hung: another one has its place when it goes on."""

FULL: Sequence[Event] = (
    *_kill(Victim.LEARNER, 8),
    *_kill(Victim.ENGINE, 12),
    *_kill(Victim.ROLLOUT, 8),
    *_kill(Victim.REWARD, 8),
    *_kill(Victim.CONTROLLER, 6),
    *_kill(Victim.API, 5),
    *_kill(Victim.GRADER, 2),
    *_kill(Victim.REDIS, 8),
    *(Event(Action.KILL, Victim.RAY, part) for part in ("gcs_server", "raylet", "ray start", "raylet", "gcs_server")),
    *_stop(Victim.LEARNER, 5.0, 20.0, SILENCE_SECONDS),
    *_stop(Victim.ROLLOUT, 5.0, LEASE_SECONDS + 5, LEASE_SECONDS + 5),
    *_stop(Victim.REWARD, 5.0, LEASE_SECONDS - 5, LEASE_SECONDS + 5),
    *_stop(Victim.CONTROLLER, 5.0, 15.0, 25.0),
    *_stop(Victim.REDIS, 3.0),
    *_fault(Victim.LEARNER, "learner.before_link", 2),
    *_fault(Victim.LEARNER, "learner.after_link", 3),
    *_fault(Victim.LEARNER, "finish.before_reply", 2),
    *_fault(Victim.LEARNER, "learner.after_finish", 3),
    *_fault(Victim.LEARNER, "learner.before_publish", 2),
    *_fault(Victim.LEARNER, "learner.during_publish", 2),
    *_fault(Victim.LEARNER, "learner.after_publish", 2),
    *_fault(Victim.LEARNER, "checkpoint.before_rename", 2),
    *_fault(Victim.ROLLOUT, "hand_over.before_send", 2),
    *_fault(Victim.ROLLOUT, "hand_over.before_reply", 2),
    *_fault(Victim.REWARD, "hand_over.before_send", 2),
    *_fault(Victim.REWARD, "hand_over.before_reply", 2),
    *_fault(Victim.ROLLOUT, "rollout.mid_weight_load", 2),
    *_fault(Victim.ENGINE, "engine.mid_weight_load", 4),
    *_fault(Victim.CONTROLLER, "dispatch.before_reply", 2),
    *(Event(Action.CUT, Victim.REDIS, commits=commits) for commits in (0, 0, 0, 1, 1, 2, 3, 4, 6, 10)),
)
"""More than the promise asks for: 100 events, 15 of learners and of engines, 10 cuts of which 3 across commits."""

SHORT: Sequence[Event] = (
    *_fault(Victim.LEARNER, "learner.after_link", 1),
    *_kill(Victim.REWARD, 1),
    *_kill(Victim.REDIS, 1),
    *_kill(Victim.API, 1),
    *_fault(Victim.ENGINE, "engine.mid_weight_load", 1),
    Event(Action.CUT, Victim.REDIS, commits=2),
)
"""What belongs to every change."""

MOST_PASSES = 6
LONGEST_PAUSE_SECONDS = 4.0
IMPATIENT = 0.15
"""Share of the events that are followed by the next one although the service has not recovered yet."""
NEVER_IMPATIENT = (Victim.RAY, Victim.REDIS)


def plan(seed: int, count: int | None = None, templates: Sequence[Event] = FULL) -> list[Event]:
    """The templates in random order at random moments; `count` of them, all by default, some again if there are more.

    Two events without a wait never follow each other, and the second is of another kind of process.
    """
    dice = random.Random(seed)
    chosen = list(templates)
    dice.shuffle(chosen)
    if count is not None:
        chosen = chosen[:count] + dice.choices(chosen, k=max(0, count - len(chosen)))
    events: list[Event] = []
    for event in chosen:
        impatient = dice.random() < IMPATIENT and event.victim not in NEVER_IMPATIENT
        if events and not events[-1].waits:
            impatient = False
            if events[-1].victim is event.victim:
                events[-1] = replace(events[-1], waits=True)
        pause = dice.uniform(0.0, LONGEST_PAUSE_SECONDS)
        events.append(replace(event, waits=not impatient, pause_seconds=pause, after=dice.randrange(MOST_PASSES)))
    return events


def shares(events: Sequence[Event], jobs: int) -> list[list[Event]]:
    """The events in order, spread evenly over the jobs."""
    bounds = [round(i * len(events) / jobs) for i in range(jobs + 1)]
    return [list(events[low:high]) for low, high in pairwise(bounds)]


def victims(events: Sequence[Event]) -> Counter[Victim]:
    """Events by kind of process."""
    return Counter(event.victim for event in events)

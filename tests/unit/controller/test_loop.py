"""The controller's loop: one is in charge, every job is looked at, none harms another, no more run than allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.controller import loop as loop_module
from services.controller.loop import LONGEST_PAUSE_SECONDS, MAX_TROUBLES, TICK_SECONDS, Controller, LostLease
from services.disk.layout import Layout
from services.store import keys
from services.store.client import Client, CommandRefused, StoreError
from services.store.job.jobs import Jobs
from services.store.job.record import JobRecord
from services.store.job.transitions import Status
from tests.support.tiny import create_job, job_spec

Look = Callable[[JobRecord, bool], None]


class Loop:
    """A controller without Ray, whose looks at jobs are noted; `at_a_look` may do something at each."""

    def __init__(self, client: Client, root: Path) -> None:
        self.client = client
        self.root = root
        self.seen: list[tuple[str, bool]] = []
        self.node_looks = 0
        self.now = 1000.0
        self.at_a_look: Look = lambda record, may_start: None
        self.made: list[str] = []
        self.left = 0
        self.moment = 0.0
        self.controller_in_charge: Any = None

    def monotonic(self) -> float:
        return self.now

    def controller(self) -> Controller:
        return Controller(self.client, Layout(self.root))

    def run(self, controller: Controller, rounds: int = 1) -> list[tuple[str, bool]]:
        """Let it go through all jobs so many times; answers what it looked at, and whether the job might start."""
        outer = self.left, self.controller_in_charge
        self.seen.clear()
        self.left, self.controller_in_charge = rounds, controller
        controller.run()
        self.left, self.controller_in_charge = outer
        return list(self.seen)

    def sleep(self, seconds: float) -> None:
        """Where the loop sleeps: a moment passes, and the rounds are counted."""
        self.now += max(seconds, self.moment)
        self.left -= 1
        if self.left <= 0:
            self.controller_in_charge.stop()

    def job(self, name: str, *statuses: Status) -> str:
        create_job(self.client, job_spec(name))
        for status in statuses:
            Jobs(self.client).transition(name, status, by="test")
        return name


@pytest.fixture
def loop(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    made = Loop(client, tmp_path)

    class Noting:
        def __init__(self, record: JobRecord, *_: Any) -> None:
            made.made.append(record.id)

        def tick(self, record: JobRecord, may_start: bool) -> None:
            made.seen.append((record.id, may_start))
            made.at_a_look(record, may_start)

    def look(_: Any) -> None:
        made.node_looks += 1

    monkeypatch.setattr(loop_module, "JobReconciler", Noting)
    monkeypatch.setattr(loop_module.NodeWatch, "look", look)
    monkeypatch.setattr(loop_module, "time", made)
    with capture_logs():  # hundreds of tracebacks are slow to print
        yield made


def test_every_job_is_looked_at_each_round_by_one_reconciler(loop: Loop) -> None:
    names = [loop.job("ftjob-a"), loop.job("ftjob-b")]
    assert loop.run(loop.controller(), rounds=3) == [(name, True) for name in names] * 3
    assert loop.made == names and loop.node_looks == 3


def test_no_more_jobs_run_than_allowed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    running = loop.job("ftjob-a", Status.QUEUED, Status.RUNNING)
    queued = [loop.job(name, Status.QUEUED) for name in ("ftjob-b", "ftjob-c")]
    assert loop.run(loop.controller()) == [(running, False), *((name, False) for name in queued)]
    monkeypatch.setenv("SSPO_MAX_RUNNING_JOBS", "2")
    assert loop.run(loop.controller()) == [(running, True), (queued[0], True), (queued[1], False)], "one place is left"
    Jobs(loop.client).transition(running, Status.PAUSING, by="test")
    assert loop.run(loop.controller())[1:] == [(queued[0], True), (queued[1], False)], "one that pauses still runs"
    Jobs(loop.client).transition(running, Status.PAUSED, by="test")
    assert loop.run(loop.controller())[1:] == [(queued[0], True), (queued[1], True)]


def test_a_job_that_is_cleaned_is_not_looked_at_until_it_is_resumed(loop: Loop) -> None:
    name = loop.job("ftjob-a", Status.FAILED)
    Jobs(loop.client).update(name, cleaned_as=Status.FAILED)
    controller = loop.controller()
    assert loop.run(controller, rounds=2) == []
    controller._stopped = False
    Jobs(loop.client).transition(name, Status.QUEUED, by="a person")
    assert loop.run(controller) == [(name, True)]


@pytest.mark.parametrize("error", [ValueError("a bug"), CommandRefused("a script's refusal")])
def test_a_job_that_goes_wrong_is_tried_ever_later_and_then_fails(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(loop_module, "MAX_TROUBLES", 9)
    bad, good = loop.job("ftjob-a", Status.QUEUED, Status.RUNNING), loop.job("ftjob-b", Status.QUEUED)
    looked: list[float] = []

    def breaks(record: JobRecord, may_start: bool) -> None:
        if record.id == bad and record.status is Status.RUNNING:
            looked.append(loop.now)
            raise error

    loop.at_a_look = breaks
    seen = loop.run(loop.controller(), rounds=400)
    assert seen.count((good, False)) + seen.count((good, True)) == 400, "the other one is looked at all the time"
    pauses = [later - earlier for earlier, later in pairwise(looked)]
    assert len(looked) == 9 and pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(2 * TICK_SECONDS, abs=TICK_SECONDS * 1.01)
    assert max(pauses) == pytest.approx(LONGEST_PAUSE_SECONDS, abs=TICK_SECONDS * 1.01)
    record = Jobs(loop.client).get(bad)
    assert record.status is Status.FAILED and record.error is not None
    assert (record.error.code, record.error.message) == ("controller_error", f"{type(error).__name__}: {error}")


def test_a_job_that_goes_well_in_between_has_all_its_tries_again(loop: Loop) -> None:
    name = loop.job("ftjob-a", Status.QUEUED, Status.RUNNING)
    looks = iter(range(10_000))

    def sometimes_breaks(record: JobRecord, may_start: bool) -> None:
        if next(looks) % (MAX_TROUBLES - 1) != 0:
            raise CommandRefused("WRONGTYPE")

    loop.at_a_look, loop.moment = sometimes_breaks, LONGEST_PAUSE_SECONDS
    loop.run(loop.controller(), rounds=3 * MAX_TROUBLES)
    assert Jobs(loop.client).get(name).status is Status.RUNNING and next(looks) == 3 * MAX_TROUBLES


def test_a_redis_that_is_away_is_no_jobs_fault(loop: Loop) -> None:
    name = loop.job("ftjob-a", Status.QUEUED)

    def away(record: JobRecord, may_start: bool) -> None:
        raise StoreError("away")

    loop.at_a_look = away
    with pytest.raises(StoreError, match="away"):
        loop.run(loop.controller(), rounds=5)
    assert len(loop.seen) == 1 and Jobs(loop.client).get(name).status is Status.QUEUED
    assert loop.client.get(keys.CONTROLLER) is None, "the next one need not wait for the lease to run out"


def test_one_controller_is_in_charge_and_gives_its_place_back(loop: Loop) -> None:
    loop.job("ftjob-a")
    first, second = loop.controller(), loop.controller()
    held: list[Any] = []

    def second_waits(record: JobRecord, may_start: bool) -> None:
        held.append(loop.client.get(keys.CONTROLLER))
        assert 0 < loop.client.ttl(keys.CONTROLLER) <= loop_module.LEASE_SECONDS
        if len(held) == 1:
            assert loop.run(second, rounds=2) == [], "it waits for the lease"

    loop.at_a_look = second_waits
    loop.run(first)
    assert held and held[0] is not None and loop.client.get(keys.CONTROLLER) is None


def test_a_controller_whose_place_was_taken_stops(loop: Loop) -> None:
    loop.job("ftjob-a")
    loop.at_a_look = lambda record, may_start: loop.client.set(keys.CONTROLLER, "another", ex=60) and None
    with pytest.raises(LostLease):
        loop.run(loop.controller(), rounds=5)
    assert len(loop.seen) == 1 and loop.client.get(keys.CONTROLLER) == b"another"

"""`python -m tests.chaos.run`: jobs on a real service, while a seeded plan kills, stops and cuts its parts.

Exit code 1 when any promise was broken, or when fewer events happened than were asked for. The tables are printed, and
written as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.chaos.auditor import Finding, inspect
from tests.chaos.injector import Injector, Missed, Wound
from tests.chaos.plan import SHORT, Event, plan, shares
from tests.chaos.table import JobReport, RunReport, show
from tests.chaos.target import ENDED, Target
from tests.chaos.victims import alive, describe

RESULTS = Path("benchmarks/results/chaos.json")
BATCH_SIZE, MAX_STALENESS = 16, 2
POLL_SECONDS = 0.25
START_SECONDS = 240.0
RECOVERY_SECONDS = 240.0
END_SECONDS = 600.0
ORPHAN_SECONDS = 60.0
"""How long what belonged to a dead Ray head may take to end."""
MOST_MISSES = 3
"""How often events of one name may not come about before they are given up."""
FIRST_RECORDS = 2
"""Of a job's journal, before the first event."""


class Broken(Exception):
    """A promise was broken, and this job can't go on."""


class Run:
    """One plan on one service."""

    def __init__(self, target: Target, seed: int, steps: int, minutes: float) -> None:
        self.report = RunReport(seed)
        self._target = target
        self._steps = steps
        self._started = time.monotonic()
        self._deadline = self._started + 60 * minutes
        self._dice = random.Random(seed)
        self._injector = Injector(target, self._dice)
        self._newest: dict[str, int] = {}

    def go(self, events: Sequence[Event], jobs: int) -> RunReport:
        """Start the service, run jobs until all events happened, stop it."""
        try:
            self._target.start()
            left: list[Event] = []
            for share in shares(events, jobs):
                left = self._job([*left, *share])
            while left and time.monotonic() < self._deadline:
                left = self._job(left)
        finally:
            orphans = self._target.stop()
        if orphans:
            self._violation(f"after the end these live: {orphans}")
        happened = len(self.report.wounds)
        if happened < len(events):
            self._violation(f"only {happened} of {len(events)} events happened in time")
        self.report.hits = self._target.points.hits()
        self.report.seconds = time.monotonic() - self._started
        return self.report

    # --- one job

    def _job(self, events: Sequence[Event]) -> list[Event]:
        """Run one job with these events; returns those that it ended too early for."""
        number = len(self.report.jobs)
        started = time.monotonic()
        # Two workers of a kind now and then: whose groups are taken over by whom matters then.
        job_id = self._target.service.submit(
            learner={
                **{"steps": self._steps, "batch_size": BATCH_SIZE, "max_staleness": MAX_STALENESS},
                **{"staleness_policy": "wait", "checkpoint_every": 5},
            },
            rollout={"group_size": 4, "concurrent_groups": 16, "workers": 2 if number % 4 == 1 else 1},
            reward={"workers": 2 if number % 3 == 2 else 1},
        )
        wounds: list[Wound] = []
        left = deque(events)
        try:
            self._await(lambda: self._target.records(job_id) >= FIRST_RECORDS, START_SECONDS, job_id, "the first steps")
            self._hurt(job_id, left, wounds)
            self._await(lambda: self._ended(job_id), END_SECONDS, job_id, "the job's end")
            self._await(lambda: self._target.view(job_id) is not None, RECOVERY_SECONDS, job_id, "an answer of the API")
        except Broken as broken:
            self._violation(f"{job_id}: {broken}; {self._target.story(job_id)}")
        self._close(job_id, wounds, time.monotonic() - started)
        return list(left)

    def _hurt(self, job_id: str, left: deque[Event], wounds: list[Wound]) -> None:
        """Do the events to the job until there are none, or it ends."""
        open_wounds: list[Wound] = []
        while left and not self._ended(job_id) and time.monotonic() < self._deadline:
            event = left.popleft()
            self._rest(job_id, event.pause_seconds)
            try:
                wound = self._injector.inject(event, job_id)
            except Missed as missed:
                self._say(job_id, f"{event.name}: {missed}")
                self.report.missed[event.name] += 1
                if self.report.missed[event.name] <= MOST_MISSES:
                    left.append(event)
                continue
            wounds.append(wound)
            open_wounds.append(wound)
            self._say(job_id, f"{event.name}: {wound.note}")
            if event.waits or not left:
                self._heal(job_id, open_wounds)
                open_wounds = []
        self._heal(job_id, open_wounds)

    def _heal(self, job_id: str, wounds: Sequence[Wound]) -> None:
        for wound in wounds:
            self._await(
                lambda wound=wound: self._injector.recovered(wound, job_id),  # type: ignore[misc]
                RECOVERY_SECONDS,
                job_id,
                f"recovery from {wound.event.name} ({wound.note})",
            )
            self._say(job_id, f"  recovered from {wound.event.name} after {wound.seconds:.1f} s")
            self._check_orphans(job_id, wound)

    def _check_orphans(self, job_id: str, wound: Wound) -> None:
        deadline = wound.at + ORPHAN_SECONDS
        while (left := [process for process in wound.watched if alive(process)]) and time.time() < deadline:
            time.sleep(POLL_SECONDS)
        if left:
            self._violation(f"{job_id}: {wound.event.name}: outlived their Ray head: {describe(left)}")

    def _close(self, job_id: str, wounds: list[Wound], seconds: float) -> None:
        """Look at what the job left behind."""
        view: dict[str, Any] = self._target.view(job_id) or {"status": "unknown"}
        finding = Finding()
        if view["status"] == "succeeded":
            finding = inspect(
                self._target.layout.job(job_id).journal,
                steps=self._steps,
                batch_size=BATCH_SIZE,
                max_staleness=MAX_STALENESS,
                allowed_drops=(),
            )
            ledger = view["ledger"]
            if not ledger["balanced"] or ledger["in_flight"] or ledger["dropped"] != finding.dropped:
                self._violation(f"{job_id}: the ledger says {ledger}")
        else:
            self._violation(f"{job_id}: ended {view['status']}: {view.get('error')}; {self._target.story(job_id)}")
            if view["status"] not in ENDED:
                self._target.service.cancel_jobs()
        for wrong in finding.wrong:
            self._violation(f"{job_id}: {wrong}")
        version = self._target.version(job_id)
        self.report.jobs.append(JobReport(job_id, view["status"], seconds, wounds, finding, version))
        self._say(job_id, f"{view['status']} after {seconds:.0f} s, {len(wounds)} events, {finding}")

    # --- waiting

    def _await(self, what: Any, seconds: float, job_id: str, name: str) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            if self._target.status(job_id) in ("failed", "cancelled"):
                raise Broken(f"the job ended while waiting for {name}")
            if time.monotonic() > deadline:
                raise Broken(f"waited {seconds:.0f} s for {name}")
            self._check_version(job_id)
            time.sleep(POLL_SECONDS)

    def _check_version(self, job_id: str) -> None:
        newest, version = self._newest.get(job_id, 0), self._target.version(job_id)
        if version < newest:
            self._violation(f"{job_id}: policy version {version} after {newest}")
        self._newest[job_id] = max(newest, version)

    def _rest(self, job_id: str, seconds: float) -> None:
        """A pause that ends early with the job."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._ended(job_id):
            time.sleep(POLL_SECONDS)

    def _ended(self, job_id: str) -> bool:
        return self._target.status(job_id) in ENDED

    def _violation(self, text: str) -> None:
        self.report.violations.append(text)
        self._print(f"VIOLATION {text}")

    def _say(self, job_id: str, text: str) -> None:
        self._print(f"job {len(self.report.jobs) + 1} record {self._target.records(job_id):3d}  {text}")

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the given command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Kill parts of a running service.")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10_000, help="of everything random")
    parser.add_argument("--minutes", type=float, default=85.0, help="after which nothing new is begun")
    parser.add_argument("--jobs", type=int, default=11, help="at least")
    parser.add_argument("--kills", type=int, help="events; by default the whole plan")
    parser.add_argument("--steps", type=int, default=100, help="of each job")
    parser.add_argument("--only", help="events whose name contains one of these words, separated by commas")
    parser.add_argument("--short", action="store_true", help="the plan of the short run")
    parser.add_argument("--data", type=Path, help="data folder; a temporary one by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is ended, too
    events = plan(options.seed, options.kills, SHORT) if options.short else plan(options.seed, options.kills)
    if options.only:
        words = options.only.split(",")
        events = [event for event in plan(options.seed) if any(word in event.name for word in words)][: options.kills]
    with tempfile.TemporaryDirectory(prefix="sspo-chaos-") as folder:
        target = Target((options.data or Path(folder)).resolve())
        report = Run(target, options.seed, options.steps, options.minutes).go(events, options.jobs)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    show(report, Console(width=140))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())

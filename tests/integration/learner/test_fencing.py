"""Two learners of one job: the one that lost its place is refused everywhere and ends itself; nothing is trained twice.

Paused learners stand for processes that were stopped and woken after their replacement took over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.journal.errors import SequenceTaken
from services.journal.journal import Journal
from services.learner.opening import open_learner
from services.store import keys
from services.store.client import Client, connect
from services.trajectories.outcomes import Fenced
from services.trajectories.progress import Progress
from services.weights.file_store import versions
from tests.support.audit import audit
from tests.support.learning import assert_ledger, fill
from tests.support.tiny import job_spec
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def groups(groups: list[bytes]) -> list[bytes]:
    """Three steps of them."""
    return groups[:6]


class Thread:
    """A learner in a thread, which can be paused where it calls a function of its own."""

    def __init__(self, spec: JobSpec, url: str, layout: Layout) -> None:
        self.client = connect(url)
        self.learner = open_learner(spec, self.client, layout)
        self.outcome: str | BaseException = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._pauses: list[threading.Event] = []

    def pause_at(
        self, owner: Any, name: str, *, after: bool = False, skip: int = 0
    ) -> tuple[threading.Event, threading.Event]:
        """Pause one call of `owner.name`, before or after it, `skip` calls from now: (reached, go on)."""
        real = getattr(owner, name)
        reached, go_on = threading.Event(), threading.Event()
        self._pauses.append(go_on)
        left = iter(range(skip, -1, -1))

        def patched(*arguments: Any, **named: Any) -> Any:
            answer = real(*arguments, **named) if after else None
            if next(left, None) == 0:
                reached.set()
                assert go_on.wait(60)
            return answer if after else real(*arguments, **named)

        setattr(owner, name, patched)
        return reached, go_on

    def start(self) -> Thread:
        self._thread.start()
        return self

    def end(self) -> str | BaseException:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.outcome

    def close(self) -> None:
        self.learner.pulse.stop()
        for pause in self._pauses:
            pause.set()
        self._thread.join(30)
        self.client.close()

    def _run(self) -> None:
        try:
            self.outcome = self.learner.run()
        except BaseException as error:  # noqa: BLE001 — the thread's boundary: a test looks at it
            self.outcome = error


@pytest.fixture
def threads(redis_url: str, layout: Layout) -> Iterator[Callable[[JobSpec], Thread]]:
    made: list[Thread] = []

    def make(spec: JobSpec) -> Thread:
        made.append(Thread(spec, redis_url, layout))
        return made[-1]

    yield make
    for thread in made:
        thread.close()


def epochs(layout: Layout, spec: JobSpec) -> list[int]:
    return [header.epoch for header in Journal(layout.job(spec.job_id).journal).headers()]


def test_of_two_learners_the_first_ends_itself_while_it_waits(
    client: Client, layout: Layout, groups: list[bytes], threads: Callable[[JobSpec], Thread]
) -> None:
    spec = job_spec()
    fill(client, spec, groups[:2])
    first = threads(spec).start()
    wait_until(lambda: first.learner.pulse.phase == "waiting_for_batch" and first.learner.step == 1)
    second = threads(spec).start()
    assert isinstance(first.end(), Fenced)
    second.learner.pulse.stop()
    assert second.end() == "drained"
    assert_ledger(client, spec, trained=2)


@pytest.mark.parametrize("redis_forgets", [False, True], ids=["redis knows", "redis lost the newer epoch"])
def test_a_learner_woken_between_assembling_and_committing_is_refused(
    client: Client,
    layout: Layout,
    groups: list[bytes],
    threads: Callable[[JobSpec], Thread],
    redis_forgets: bool,
) -> None:
    spec = job_spec(max_staleness=9)
    fill(client, spec, groups)
    old = threads(spec)
    reached, wake = old.pause_at(old.learner, "_commit")
    old.start()
    assert reached.wait(30)
    remembered: Any = client.hgetall(keys.progress(spec.job_id))
    new = threads(spec)
    asserted, go_on = new.pause_at(new.learner, "_commit")
    new.start()
    assert asserted.wait(30)
    if redis_forgets:
        client.delete(keys.progress(spec.job_id))
        client.hset(keys.progress(spec.job_id), mapping=remembered)
    published = dict(versions(layout.job(spec.job_id).weights))
    wake.set()
    assert isinstance(old.end(), Fenced)
    assert epochs(layout, spec) == [], "nothing was committed"
    assert versions(layout.job(spec.job_id).weights) == published, "nothing was published"
    assert client.xlen(keys.stream(spec.job_id, "scored")) == 6, "nothing was finished"
    go_on.set()
    assert new.end() == "finished"
    assert epochs(layout, spec) == [2, 2, 2]
    assert audit(layout.job(spec.job_id).journal).clean
    assert_ledger(client, spec, trained=6)


@pytest.mark.parametrize("redis_forgets", [False, True], ids=["redis knows", "redis lost the newer epoch"])
def test_a_learner_woken_while_it_trains_publishes_nothing(
    client: Client,
    layout: Layout,
    groups: list[bytes],
    threads: Callable[[JobSpec], Thread],
    redis_forgets: bool,
) -> None:
    spec = job_spec(max_staleness=9)
    fill(client, spec, groups[:2])
    old = threads(spec)
    reached, wake = old.pause_at(old.learner.parts.evidence, "train", after=True)
    old.start()
    assert reached.wait(30)
    remembered: Any = client.hgetall(keys.progress(spec.job_id))
    new = threads(spec).start()
    wait_until(lambda: new.learner.pulse.phase == "waiting_for_batch")
    new.learner.pulse.stop()
    assert new.end() == "drained"
    if redis_forgets:
        client.delete(keys.progress(spec.job_id))
        client.hset(keys.progress(spec.job_id), mapping=remembered)
    before = Progress(client).read(spec.job_id)
    published = dict(versions(layout.job(spec.job_id).weights))
    wake.set()
    assert isinstance(old.end(), Fenced)
    assert versions(layout.job(spec.job_id).weights) == published
    assert Progress(client).read(spec.job_id).published_path == before.published_path
    assert_ledger(client, spec, trained=2)


def test_a_learner_woken_in_the_last_moment_commits_and_its_replacement_ends_itself(
    client: Client,
    layout: Layout,
    groups: list[bytes],
    threads: Callable[[JobSpec], Thread],
) -> None:
    spec = job_spec(max_staleness=9)
    fill(client, spec, groups)
    old = threads(spec)
    # It looks when it asserts, publishes and names what it published; the fourth time is before its first commit.
    reached, wake = old.pause_at(old.learner.parts.journal, "check_epoch", after=True, skip=3)
    old.start()
    assert reached.wait(30)
    new = threads(spec)
    asserted, go_on = new.pause_at(new.learner, "_commit")
    new.start()
    assert asserted.wait(30)
    wake.set()
    assert isinstance(old.end(), Fenced), "committed, and then refused before it finished or trained"
    assert epochs(layout, spec) == [1]
    go_on.set()
    assert isinstance(new.end(), SequenceTaken | Fenced)
    third = threads(spec).start()
    assert third.end() == "finished"
    assert epochs(layout, spec) == [1, 3, 3]
    report = audit(layout.job(spec.job_id).journal)
    assert report.clean and report.trained == 6
    assert_ledger(client, spec, trained=6)


def test_epochs_are_claimed_once_whoever_asks_at_the_same_time(tmp_path: Path) -> None:
    claimed: list[int] = []
    barrier = threading.Barrier(8)

    def claim() -> None:
        journal = Journal(tmp_path / "journal")
        barrier.wait(10)
        claimed.append(journal.claim_epoch())

    workers = [threading.Thread(target=claim) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert sorted(claimed) == list(range(1, 9))
    assert len(os.listdir(tmp_path / "journal")) == 8

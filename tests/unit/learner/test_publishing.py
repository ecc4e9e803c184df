"""Versions only grow, past everything that anybody knows of, and a replaced learner publishes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.journal.journal import Journal
from services.learner import publishing
from services.learner.publishing import KEEP_VERSIONS, Publisher
from services.learner.pulse import Pulse
from services.store import keys
from services.store.client import Client
from services.trajectories.outcomes import Fenced
from services.trajectories.progress import Progress

JOB = "ftjob-1"


class Weights:
    """A backend that notes what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[int, int]] = []

    def publish(self, root: Path, *, version: int, step: int) -> Path:
        self.published.append((version, step))
        return root / str(version)


class Case:
    """A publisher, and what others know of versions."""

    def __init__(self, client: Client, root: Path) -> None:
        self.weights: Any = Weights()
        self.progress = Progress(client)
        self.journal = Journal(root / "journal")
        self.journal.claim_epoch()
        self.stored: list[int] = []
        self.kept: list[int] = []
        self.publisher = Publisher(JOB, self.progress, root / "weights", self.journal, self.weights)


@pytest.fixture
def case(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    made = Case(client, tmp_path)
    monkeypatch.setattr(publishing, "versions", lambda folder: made.stored)
    monkeypatch.setattr(publishing, "collect_garbage", lambda folder, keep: made.kept.append(keep))
    return made


def test_the_first_version_is_one_and_redis_is_told_where_it_is(case: Case, tmp_path: Path) -> None:
    assert case.publisher.version == 0
    case.publisher.publish(0)
    case.publisher.publish(1)
    assert case.weights.published == [(1, 0), (2, 1)] and case.publisher.version == 2
    known = case.progress.read(JOB)
    assert (known.policy_version, known.published_step) == (2, 1)
    assert known.published_path == str(tmp_path / "weights" / "2")
    assert case.kept == [KEEP_VERSIONS] * 2


@pytest.mark.parametrize(("journal", "disk", "redis"), [(7, 3, 2), (3, 7, 2), (2, 3, 7)])
def test_a_version_is_above_all_that_journal_disk_and_redis_know(
    case: Case, journal: int, disk: int, redis: int
) -> None:
    case.publisher.go_on_from(journal)
    case.stored = [1, disk]
    case.progress.publish(JOB, epoch=1, version=redis, step=0, path="/old")
    case.publisher.publish(4)
    assert case.weights.published == [(8, 4)]
    case.publisher.go_on_from(2)
    assert case.publisher.version == 8, "never back"


def test_a_learner_that_was_replaced_publishes_nothing(case: Case) -> None:
    case.publisher.publish(0)
    Journal(case.journal.folder).claim_epoch()
    for use in (lambda: case.publisher.publish(1), case.publisher.name):
        with pytest.raises(Fenced):
            use()
    assert case.weights.published == [(1, 0)] and case.progress.read(JOB).policy_version == 1


def test_one_replaced_while_it_wrote_names_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    write = case.weights.publish

    def meanwhile(root: Path, **what: int) -> Path:
        Journal(case.journal.folder).claim_epoch()
        return write(root, **what)  # type: ignore[no-any-return]

    monkeypatch.setattr(case.weights, "publish", meanwhile)
    with pytest.raises(Fenced):
        case.publisher.publish(0)
    assert case.progress.read(JOB).policy_version == 0


def test_a_name_that_redis_forgot_is_told_again(case: Case, client: Client) -> None:
    case.publisher.name()
    assert case.progress.read(JOB).policy_version == 0, "there is nothing to name yet"
    case.publisher.publish(5)
    client.delete(keys.progress(JOB))
    case.publisher.name()
    known = case.progress.read(JOB)
    assert (known.policy_version, known.published_step) == (1, 5)


def test_a_pulse_says_where_a_learner_is_and_hears_when_to_stop() -> None:
    pulse = Pulse()
    assert (pulse.phase, pulse.version, pulse.stopping) == ("starting", 0, False)
    began = pulse.moved_at
    pulse.enter("training")
    assert pulse.phase == "training" and pulse.moved_at > began
    entered = pulse.moved_at
    pulse.beat()
    assert pulse.moved_at > entered
    pulse.stop()
    pulse.wait(30)
    assert pulse.stopping

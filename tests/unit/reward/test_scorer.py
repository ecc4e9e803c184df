from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.reward import sandbox, scorer
from services.reward.scorer import Scored, Scorer
from services.reward.tokens import CompletionDecoder
from services.trajectories.codec import decode_group, encode
from services.trajectories.entries import Entry
from services.trajectories.reading import POISON_DEATHS
from sspo_proto.trajectory_pb2 import Failure, Group
from tests.support.counted import Counted

from .conftest import CATASTROPHE, ENDLESS, JOB, MODEL

MakeSpec = Callable[..., JobSpec]
MakeGroup = Callable[..., Group]
MakeScorer = Callable[..., Scorer]


@pytest.fixture
def make_scorer(layout: Layout, make_spec: MakeSpec) -> Iterator[MakeScorer]:
    made: list[Scorer] = []
    decoder = CompletionDecoder(layout.model(MODEL))

    def make(on_progress: Callable[[], None] = lambda: None, **spec: Any) -> Scorer:
        made.append(Scorer(make_spec(**spec), "reward-1", decoder, on_progress))
        return made[-1]

    yield make
    for one in made:
        one.close()


def entry(payload: bytes, number: int = 3, deaths: int = 0) -> Entry:
    return Entry(id="1-0", number=number, step=0, payload=payload, deaths=deaths)


def failure_of(scored: Scored) -> Failure:
    group = decode_group(scored.payload)
    assert group.HasField("failure") and not group.trajectories
    assert (group.task.job_id, group.task.group_number) == (JOB, 3)
    return group.failure


def test_every_trajectory_gets_its_reward_and_nothing_else_changes(
    make_scorer: MakeScorer, make_group: MakeGroup
) -> None:
    group, counted = make_group(3, "4", "5", "4", answer="4"), Counted()
    one = make_scorer()
    scored = decode_group(one.score(entry(encode(group))).payload)
    assert [trajectory.reward.value for trajectory in scored.trajectories] == [1.0, 0.0, 1.0]
    assert scored.reward_worker == "reward-1" and scored.scored_at > 0 and not scored.HasField("failure")
    for trajectory in scored.trajectories:
        trajectory.ClearField("reward")
    scored.ClearField("reward_worker")
    scored.ClearField("scored_at")
    assert scored == group
    assert counted("sspo_grader_seconds_count", grader="string_check") == 3
    assert counted("sspo_grader_seconds_sum") > 0 and counted("sspo_grader_errors_total") == 0


def test_a_group_that_already_failed_passes_unchanged(make_scorer: MakeScorer, make_group: MakeGroup) -> None:
    failed = make_group(3)
    failed.failure.CopyFrom(Failure(reason="malformed", code="prompt", detail="no such prompt"))
    payload = encode(failed)
    assert make_scorer().score(entry(payload)) == Scored(payload)


def test_a_time_out_is_tried_again_and_then_fails_the_whole_group(
    make_scorer: MakeScorer, make_group: MakeGroup
) -> None:
    counted, one = Counted(), make_scorer(grader=CATASTROPHE, timeout_seconds=0.2, attempts=2)
    started = time.monotonic()
    failure = failure_of(one.score(entry(encode(make_group(3, "aa", ENDLESS, "a")))))
    assert time.monotonic() - started < 5
    assert (failure.reason, failure.code) == ("grader_failed", "unresponsive_reward_error")
    assert counted("sspo_grader_errors_total", error="unresponsive_reward_error") == 2
    # The next group finds a working grader.
    assert not decode_group(one.score(entry(encode(make_group(3, "aa")))).payload).HasField("failure")


def kill_in_calls(one: Scorer, most: int) -> list[int]:
    """Have the grader process killed while it works on a call, in at most that many calls; returns those calls."""
    killed: list[int] = []

    def kill() -> None:
        call = one._process._calls
        # While a process is being started for the next call, the number is still that of the last one.
        if call > 0 and call not in killed and len(killed) < most and one._process.pid is not None:
            killed.append(call)
            os.kill(one._process.pid, signal.SIGKILL)

    one._process._on_wait = kill
    return killed


def test_a_crash_is_tried_again_and_the_reward_is_the_second_tries(
    make_scorer: MakeScorer, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "WAIT_SECONDS", 0.02)
    counted, one = Counted(), make_scorer(grader={**CATASTROPHE, "pattern": "(a+)+b$"}, timeout_seconds=30, attempts=3)
    killed = kill_in_calls(one, most=1)
    group = decode_group(one.score(entry(encode(make_group(3, "a" * 22 + "c", "aab")))).payload)
    assert killed == [1] and [trajectory.reward.value for trajectory in group.trajectories] == [0.0, 1.0]
    assert counted("sspo_grader_errors_total", error="python_grader_server_error") == 1


def test_a_process_that_crashes_at_every_try_drops_the_group_typed(
    make_scorer: MakeScorer, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "WAIT_SECONDS", 0.02)
    monkeypatch.setattr(scorer, "BACK_OFF_SECONDS", 0.01)
    counted, one = Counted(), make_scorer(grader=CATASTROPHE, timeout_seconds=30, attempts=3)
    killed = kill_in_calls(one, most=3)
    failure = failure_of(one.score(entry(encode(make_group(3, ENDLESS, "a")))))
    assert (failure.reason, failure.code) == ("grader_failed", "python_grader_server_error")
    assert "SIGKILL" in failure.detail and len(killed) == 3
    assert counted("sspo_grader_errors_total", error="python_grader_server_error") == 3


def test_a_permanent_error_is_not_tried_again(make_scorer: MakeScorer, make_group: MakeGroup) -> None:
    counted, one = Counted(), make_scorer(attempts=5)
    failure = failure_of(one.score(entry(encode(make_group(3, "4", "5", question="2+2")))))
    assert (failure.reason, failure.code) == ("grader_failed", "invalid_variable_error")
    assert "item.answer" in failure.detail
    assert counted("sspo_grader_seconds_count") == 1


def _without_item(group: Group) -> bytes:
    group.task.item_json = "[1]"
    return encode(group)


def _other_number(group: Group) -> bytes:
    group.task.group_number = 4
    return encode(group)


def _other_job(group: Group) -> bytes:
    group.task.job_id = "ftjob-other"
    return encode(group)


@pytest.mark.parametrize(
    ("spoil", "code", "match"),
    [
        (lambda group: b"\xff\xff\xff", "undecodable", "not a Group"),
        (_without_item, "undecodable", "item_json"),
        (_other_number, "another_group", "number 3"),
        (_other_job, "another_group", "ftjob-other"),
    ],
)
def test_a_payload_that_cannot_be_read_becomes_a_named_failure(
    make_scorer: MakeScorer, make_group: MakeGroup, spoil: Callable[[Group], bytes], code: str, match: str
) -> None:
    scored = make_scorer().score(entry(spoil(make_group(3, "4", answer="4"))))
    failure = failure_of(scored)
    assert (
        (failure.reason, failure.code) == ("malformed", code) and scored.failure is not None and scored.failure.is_kept
    )
    assert match in failure.detail


def test_a_group_that_outlived_five_consumers_is_poison_unread(make_scorer: MakeScorer, make_group: MakeGroup) -> None:
    payload = encode(make_group(3, "4", answer="4"))
    one = make_scorer()
    assert not decode_group(one.score(entry(payload, deaths=POISON_DEATHS - 1)).payload).HasField("failure")
    scored = one.score(entry(payload, deaths=POISON_DEATHS))
    assert failure_of(scored).reason == "poison" and scored.failure is not None and scored.failure.is_kept

"""The worker's loop against a real Redis and real grader processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from services.disk.layout import Layout, UnknownModel
from services.job.spec import JobSpec
from services.records.worker import WorkerDetail
from services.reward import sandbox, worker
from services.reward.worker import EVALUATION_EVERY, RewardWorker
from services.store import keys
from services.store.client import Client
from services.store.job.registry import Registry
from services.trajectories import streams
from services.trajectories.codec import decode_group, encode
from services.trajectories.entries import CONSUMERS, DEAD, EVAL_SCORED, EVAL_TRAJECTORIES, PROMPTS, SCORED, TRAJECTORIES
from services.trajectories.stage import Stage
from sspo_proto.trajectory_pb2 import Group

from .conftest import CATASTROPHE, ENDLESS, JOB

MakeSpec = Callable[..., JobSpec]
MakeGroup = Callable[..., Group]


class Running:
    """A worker and its loop in a thread."""

    def __init__(self, reward_worker: RewardWorker, pool: ThreadPoolExecutor) -> None:
        self.worker = reward_worker
        self.loop: Future[str] = pool.submit(reward_worker.run)

    def drain(self, timeout_seconds: float = 20.0) -> str:
        self.worker.drain()
        return self.loop.result(timeout_seconds)


@pytest.fixture
def start(client: Client, layout: Layout, make_spec: MakeSpec) -> Iterator[Callable[..., Running]]:
    streams.prepare(client, JOB)
    started: list[Running] = []
    with ThreadPoolExecutor(4) as pool:

        def start_worker(worker_id: str = "reward-1", **spec: Any) -> Running:
            started.append(Running(RewardWorker(make_spec(**spec), worker_id, client, layout, "127.0.0.1:9"), pool))
            return started[-1]

        yield start_worker
        for running in started:
            running.worker._drain_deadline = 0.0
            running.worker._draining.set()


def put(client: Client, group: Group, *, payload: bytes | None = None) -> None:
    """Dispatch a group's prompt and hand its sample over, as the stages before this one do."""
    number = group.task.group_number
    assert streams.dispatch(client, JOB, number, encode(group.task), step=5)
    rollout = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-1")
    entry = rollout.take()
    assert entry is not None
    assert rollout.hand_over(entry, encode(group) if payload is None else payload, step=4)


def put_evaluation(client: Client, group: Group) -> None:
    fields: dict[Any, Any] = {"job": JOB, "number": group.task.group_number, "step": 4, "payload": encode(group)}
    client.xadd(keys.stream(JOB, EVAL_TRAJECTORIES), fields)


def wait_for(client: Client, name: str, count: int, timeout_seconds: float = 20.0) -> list[Group]:
    deadline = time.monotonic() + timeout_seconds
    while len(entries := streams.read_after(client, JOB, name, "0")) < count:
        assert time.monotonic() < deadline, f"{len(entries)} of {count} groups in {name}"
        time.sleep(0.01)
    assert len(entries) == count
    return [decode_group(entry.payload) for entry in entries]


def until(condition: Callable[[], bool], timeout_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_groups_are_graded_and_handed_over_until_drained(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    for number in range(3):
        put(client, make_group(number, "4", "5", answer="4"))
    running = start()
    groups = wait_for(client, SCORED, 3)
    assert [group.task.group_number for group in groups] == [0, 1, 2]
    assert all([t.reward.value for t in group.trajectories] == [1.0, 0.0] for group in groups)
    steps = [entry.step for entry in streams.read_after(client, JOB, SCORED, "0")]
    assert steps == [4, 4, 4]
    assert running.drain() == "drained"
    assert client.xlen(keys.stream(JOB, TRAJECTORIES)) == 0
    put(client, make_group(3, "4", answer="4"))
    assert client.xlen(keys.stream(JOB, TRAJECTORIES)) == 1


def test_the_heartbeat_moves_and_says_where_the_metrics_are(
    client: Client, start: Callable[..., Running], make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "TICK_SECONDS", 0.05)
    put(client, make_group(0, "4", "5", answer="4"))
    running = start()
    wait_for(client, SCORED, 1)

    def record() -> Any:
        (found,) = Registry(client).list(JOB)
        return found

    until(lambda: record().state == "ready")
    first = record()
    assert (first.id, first.kind, first.state) == ("reward-1", "reward", "ready")
    assert first.detail == WorkerDetail(metrics_address="127.0.0.1:9")
    until(lambda: record().heartbeat > first.heartbeat)
    running.drain()
    assert record().state == "draining"


def test_a_grader_that_hangs_drops_its_group_and_the_next_one_is_graded(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    put(client, make_group(0, "a", ENDLESS))
    put(client, make_group(1, "a", "b"))
    start(grader=CATASTROPHE, timeout_seconds=0.2, attempts=2)
    dropped, graded = wait_for(client, SCORED, 2)
    assert (dropped.failure.reason, dropped.failure.code) == ("grader_failed", "unresponsive_reward_error")
    assert not dropped.trajectories
    assert [t.reward.value for t in graded.trajectories] == [1.0, 0.0]


def test_a_payload_nobody_can_read_goes_on_as_malformed_and_is_kept_for_people(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    put(client, make_group(0, "4"), payload=b"\xff\xff")
    start()
    (group,) = wait_for(client, SCORED, 1)
    assert (group.failure.reason, group.task.group_number) == ("malformed", 0)
    until(lambda: client.xlen(keys.stream(JOB, DEAD)) == 1)
    ((_, kept),) = client.xrange(keys.stream(JOB, DEAD))
    assert kept[b"payload"] == b"\xff\xff" and kept[b"number"] == b"0" and kept[b"reason"] == b"malformed"


def test_what_a_dead_worker_held_is_taken_over_and_a_living_ones_is_not(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    put(client, make_group(0, "4", answer="4"))
    put(client, make_group(1, "4", answer="4"))
    assert Stage(client, JOB, TRAJECTORIES, SCORED, "dead").take() is not None
    assert Stage(client, JOB, TRAJECTORIES, SCORED, "alive").take() is not None
    assert streams.release_consumer(client, JOB, "dead") == 1
    running = start()
    (group,) = wait_for(client, SCORED, 1)
    assert group.task.group_number == 0
    running.drain()
    assert client.xlen(keys.stream(JOB, SCORED)) == 1 and client.xlen(keys.stream(JOB, TRAJECTORIES)) == 1


def test_a_group_that_outlived_five_consumers_becomes_poison(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    put(client, make_group(0, "4", answer="4"))
    for death in range(5):
        stage = Stage(client, JOB, TRAJECTORIES, SCORED, f"dead-{death}")
        assert stage.take_over(20.0) if death else stage.take()
        streams.release_consumer(client, JOB, f"dead-{death}")
    start()
    (group,) = wait_for(client, SCORED, 1)
    assert (group.failure.reason, group.task.group_number) == ("poison", 0)


def test_the_lease_is_refreshed_while_a_grader_takes_its_time(
    client: Client, start: Callable[..., Running], make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(sandbox, "WAIT_SECONDS", 0.05)
    put(client, make_group(0, ENDLESS))
    start(grader=CATASTROPHE, timeout_seconds=2.5, attempts=1)
    until(lambda: client.xpending(keys.stream(JOB, TRAJECTORIES), CONSUMERS)["pending"] == 1)
    other = Stage(client, JOB, TRAJECTORIES, SCORED, "other")
    until_late = time.monotonic() + 2.0
    while time.monotonic() < until_late:
        assert other.take_over(1.0) == []
        time.sleep(0.1)
    (group,) = wait_for(client, SCORED, 1)
    assert group.failure.code == "unresponsive_reward_error"


def test_draining_for_too_long_gives_the_group_back_without_a_death(
    client: Client, start: Callable[..., Running], make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "WAIT_SECONDS", 0.05)
    put(client, make_group(0, ENDLESS))
    running = start(grader=CATASTROPHE, timeout_seconds=60, drain_seconds=0.2)
    until(lambda: client.xpending(keys.stream(JOB, TRAJECTORIES), CONSUMERS)["pending"] == 1)
    started = time.monotonic()
    assert running.drain(10.0) == "drained"
    assert time.monotonic() - started < 5.0
    assert client.xlen(keys.stream(JOB, SCORED)) == 0
    (entry,) = Stage(client, JOB, TRAJECTORIES, SCORED, "other").take_over(20.0)
    assert (entry.number, entry.deaths) == (0, 0)


def test_evaluation_yields_to_training_but_gets_its_turn(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    for number in range(2 * EVALUATION_EVERY + 4):
        put(client, make_group(number, "4", answer="4"))
    for row in range(3):
        put_evaluation(client, make_group(row, "5", answer="4"))
    start()
    trained = wait_for(client, SCORED, 2 * EVALUATION_EVERY + 4)
    evaluated = wait_for(client, EVAL_SCORED, 3)
    assert [group.trajectories[0].reward.value for group in evaluated] == [0.0] * 3
    order = sorted(
        [(group.scored_at, "train") for group in trained] + [(group.scored_at, "eval") for group in evaluated]
    )
    places = [place for place, (_, kind) in enumerate(order) if kind == "eval"]
    assert places == [EVALUATION_EVERY - 1, 2 * EVALUATION_EVERY - 1, len(order) - 1]


def test_two_workers_share_the_work_and_grade_nothing_twice(
    client: Client, start: Callable[..., Running], make_group: MakeGroup
) -> None:
    for number in range(40):
        put(client, make_group(number, "4", answer="4"))
    start("reward-1")
    start("reward-2")
    groups = wait_for(client, SCORED, 40)
    assert sorted(group.task.group_number for group in groups) == list(range(40))


def test_an_unregistered_model_ends_the_worker_with_its_name(
    client: Client, make_spec: MakeSpec, layout: Layout
) -> None:
    spec = make_spec().model_copy(update={"model": "nowhere"})
    with pytest.raises(UnknownModel, match="nowhere"):
        RewardWorker(spec, "reward-1", client, layout, "127.0.0.1:9").run()


def test_draining_twice_keeps_the_first_deadline(client: Client, make_spec: MakeSpec, layout: Layout) -> None:
    reward_worker = RewardWorker(make_spec(drain_seconds=5.0), "reward-1", client, layout, "127.0.0.1:9")
    reward_worker.drain()
    first = reward_worker._drain_deadline
    threading.Event().wait(0.01)
    reward_worker.drain()
    assert reward_worker._drain_deadline == first

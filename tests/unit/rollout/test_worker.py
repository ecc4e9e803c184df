"""The worker's loop against real streams, with an engine that has no model."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from services.job.spec import JobSpec
from services.rollout import worker as worker_module
from services.rollout.engine import EngineBroken, LoadRefused
from services.rollout.weights import CanaryFailed
from services.rollout.worker import NoWeights, RolloutWorker
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.registry import Registry, WorkerRecord
from services.trajectories import streams
from services.trajectories.codec import decode_group, encode, ints
from services.trajectories.entries import DEAD, EVAL_PROMPTS, EVAL_TRAJECTORIES, PROMPTS, TRAJECTORIES
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.tallies import Tallies
from services.weights.file_store import VersionGone, publish
from services.weights.manifest import Canary
from sspo_proto.trajectory_pb2 import Group, PromptTask, Sampling
from tests.support.counted import Counted
from tests.support.fake_engine import REFUSED_TOKEN, FakeEngine
from tests.support.tiny import job_spec

JOB = "ftjob-1"


def spec_of(wait_seconds: float = 20.0, **rollout: Any) -> JobSpec:
    spec = job_spec(JOB, wait_seconds=wait_seconds)
    settings = {"group_size": 2, "max_tokens": 200, "concurrent_groups": 2, "drain_seconds": 5.0, **rollout}
    return spec.model_copy(update={"rollout": spec.rollout.model_copy(update=settings)})


@dataclass
class Bench:
    """One worker, its engine and its job."""

    client: Client
    folder: Path
    engine: FakeEngine
    worker: RolloutWorker
    spec: JobSpec
    run: asyncio.Task[str] | None = None
    number: int = 0

    def publish(self, version: int, step: int) -> Path:
        path = publish(
            self.folder / "weights",
            {"w": torch.full((2,), float(version))},
            version=version,
            step=step,
            canary=Canary(token_ids=(1, 2), logprobs=(-1.0,)),
            model_files=self.folder,
            dtype=torch.float32,
        )
        Progress(self.client).publish(JOB, epoch=1, version=version, step=step, path=str(path))
        return path

    def dispatch(self, *, step: int = 0, payload: bytes | None = None, **task: Any) -> int:
        number, self.number = self.number, self.number + 1
        assert streams.dispatch(self.client, JOB, number, payload or encode(task_of(number, **task)), step)
        return number

    def evaluate(self, number: int, **task: Any) -> None:
        payload = encode(task_of(number, group_size=1, temperature=0.0, **task))
        streams.add_evaluation(self.client, JOB, number, payload, 0)

    def handed_over(self, name: str = TRAJECTORIES) -> dict[int, Group]:
        entries = streams.read_after(self.client, JOB, name, "0")
        return {entry.number: decode_group(entry.payload) for entry in entries}

    @property
    def record(self) -> WorkerRecord | None:
        return next(iter(Registry(self.client).list(JOB)), None)

    @property
    def error_codes(self) -> list[str]:
        return [event.data["code"] for event in Events(self.client).list(JOB)[0] if event.data]

    async def drained(self) -> str:
        self.worker.drain()
        assert self.run is not None
        return await asyncio.wait_for(self.run, 10)


def task_of(
    number: int, *, max_tokens: int = 5, group_size: int = 2, temperature: float = 1.0, **task: Any
) -> PromptTask:
    sampling = Sampling(
        temperature=temperature, max_tokens=max_tokens, seed=number, group_size=group_size, stop_token_ids=[2]
    )
    fields = {"prompt_token_ids": ints([3, 4, number]), **task}
    return PromptTask(schema_version=1, job_id=JOB, group_number=number, sampling=sampling, **fields)


async def until(condition: Callable[[], Any], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def started(client: Client, tmp_path: Path, **settings: Any) -> AsyncIterator[Bench]:
    """A worker that runs; nothing is published yet."""
    (tmp_path / "config.json").write_text("{}")
    streams.prepare(client, JOB)
    engine, spec = FakeEngine(), spec_of(**settings)
    bench = Bench(client, tmp_path, engine, RolloutWorker(spec, "rollout-1", client, engine), spec)
    bench.run = asyncio.create_task(bench.worker.run())
    try:
        yield bench
    finally:
        bench.run.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await bench.run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(worker_module, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr("services.rollout.presence.BEAT_SECONDS", 0.1)


Scenario = Callable[[Client, Path], Coroutine[Any, Any, None]]


def run(scenario: Scenario, client: Client, tmp_path: Path) -> None:
    asyncio.run(asyncio.wait_for(scenario(client, tmp_path), 30))


def test_groups_go_from_prompts_to_trajectories(client: Client, tmp_path: Path) -> None:
    counted = Counted()

    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            numbers = [bench.dispatch() for _ in range(5)]
            await until(lambda: bench.record and bench.record.state == "starting")
            bench.publish(version=3, step=2)
            await until(lambda: len(bench.handed_over()) == 5)
            assert await bench.drained() == "drained"
            groups = bench.handed_over()
            assert sorted(groups) == numbers
            for trajectory in groups[4].trajectories:
                (span,) = trajectory.version_spans
                assert (span.version, span.step, span.start, span.end) == (3, 2, 0, 5)
            assert groups[4].rollout_worker == "rollout-1"
            assert {entry.step for entry in streams.read_after(client, JOB, TRAJECTORIES, "0")} == {2}
            tokens = sum(len(row.completion_token_ids) // 4 for group in groups.values() for row in group.trajectories)
            assert counted("sspo_rollout_groups_total") == 5
            assert counted("sspo_rollout_completion_tokens_total") == tokens
            assert counted("sspo_weight_sync_seconds_count") == 1 and counted("sspo_weight_sync_bytes_total") > 0
            assert bench.engine.requests[0].seed == 0 and bench.engine.requests[0].stop_token_ids == (2,)
            assert bench.engine.stopped
            assert not list((tmp_path / "weights").glob(".held-*"))

    run(scenario, client, tmp_path)


def test_the_registry_says_what_the_worker_does(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=7)
            for _ in range(2):
                bench.dispatch(max_tokens=150)
            await until(lambda: bench.record and bench.record.detail["groups_in_flight"] == 2)
            record = bench.record
            assert record is not None
            assert (record.state, record.policy_version, record.kind) == ("ready", 1, "rollout")
            assert record.detail["engine_pid"] == 4711
            assert abs(record.heartbeat - time.time()) < 2
            await until(lambda: bench.record and bench.record.detail["tokens_total"] == 2 * 2 * 150)

    run(scenario, client, tmp_path)


def test_no_weights_is_a_typed_end(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path, wait_seconds=0.3) as bench:
            assert bench.run is not None
            with pytest.raises(NoWeights):
                await asyncio.wait_for(bench.run, 5)
            assert bench.error_codes == ["NoWeights"]
            assert bench.record is not None and bench.record.state == "failed"

    run(scenario, client, tmp_path)


def test_weights_change_in_mid_generation(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            bench.dispatch(max_tokens=200)
            await until(lambda: bench.engine.running)
            await asyncio.sleep(0.1)
            bench.publish(version=2, step=1)
            await until(bench.handed_over)
            (trajectory, _) = bench.handed_over()[0].trajectories
            assert [(span.version, span.step) for span in trajectory.version_spans] == [(1, 0), (2, 1)]
            assert streams.read_after(client, JOB, TRAJECTORIES, "0")[0].step == 0
            await until(lambda: bench.record and bench.record.policy_version == 2)

    run(scenario, client, tmp_path)


def test_a_group_issued_after_a_publish_is_sampled_under_it(client: Client, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 0.3)  # the prompt is seen long before the next look

    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            bench.dispatch(max_tokens=100)
            await until(lambda: bench.engine.running)
            for version in range(2, 8):
                bench.publish(version=version, step=version)
                number = bench.dispatch(step=version)
                await until(lambda: number in bench.handed_over())  # noqa: B023
                (span,) = bench.handed_over()[number].trajectories[0].version_spans
                assert span.version == version

    run(scenario, client, tmp_path)


def test_a_group_waits_for_the_verdict_on_its_versions(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            number = bench.dispatch(max_tokens=60)
            await until(lambda: bench.engine.running)
            bench.engine.hold_canary.clear()
            bench.publish(version=2, step=1)
            await until(lambda: bench.engine.loaded == [1, 2] and not bench.engine.running)
            await asyncio.sleep(0.3)
            assert bench.handed_over() == {}
            assert bench.record is not None and (bench.record.state, bench.record.policy_version) == ("syncing", 1)
            bench.engine.hold_canary.set()
            await until(lambda: number in bench.handed_over())

    run(scenario, client, tmp_path)


def test_a_failed_canary_ends_the_worker_and_returns_its_groups(client: Client, tmp_path: Path) -> None:
    counted = Counted()

    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            for _ in range(2):
                bench.dispatch(max_tokens=100)
            await until(lambda: bench.engine.running == 2)
            bench.engine.wrong_canaries = {2}
            bench.publish(version=2, step=1)
            assert bench.run is not None
            with pytest.raises(CanaryFailed, match="version 2"):
                await asyncio.wait_for(bench.run, 5)
            assert bench.handed_over() == {}
            assert bench.error_codes == ["CanaryFailed"]
            assert bench.engine.stopped
            assert counted("sspo_weight_sync_failures_total", cause="CanaryFailed") == 1
            tallies = Tallies(client).read(JOB)
            assert tallies.canary_failures == 1 and time.time() - tallies.canary_failed_at < 60
            # Given back: another worker has them at once, and no death is counted.
            taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
            assert [(entry.number, entry.deaths) for entry in taken] == [(0, 0), (1, 0)]

    run(scenario, client, tmp_path)


def test_a_refused_version_ends_the_worker_and_returns_its_groups(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            bench.dispatch(max_tokens=100)
            await until(lambda: bench.engine.running)
            bench.engine.load_error = LoadRefused("sha256")
            bench.publish(version=2, step=1)
            assert bench.run is not None
            with pytest.raises(LoadRefused):
                await asyncio.wait_for(bench.run, 5)
            taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
            assert [entry.deaths for entry in taken] == [0]

    run(scenario, client, tmp_path)


def test_a_dead_engine_ends_the_worker_and_counts_a_death(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            bench.dispatch(max_tokens=200)
            await until(lambda: bench.engine.running)
            bench.engine.broken = EngineBroken("the engine died")
            assert bench.run is not None
            with pytest.raises(EngineBroken):
                await asyncio.wait_for(bench.run, 5)
            assert bench.error_codes == ["EngineBroken"]
            streams.release_consumer(client, JOB, "rollout-1")
            taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
            assert [(entry.number, entry.deaths) for entry in taken] == [(0, 1)]

    run(scenario, client, tmp_path)


def test_an_idle_engine_that_dies_is_noticed(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            await until(lambda: bench.record and bench.record.state == "ready")
            bench.engine.broken = EngineBroken("the engine died")
            assert bench.run is not None
            with pytest.raises(EngineBroken):
                await asyncio.wait_for(bench.run, 5)

    run(scenario, client, tmp_path)


def test_an_engine_that_hangs_ends_the_worker(client: Client, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.rollout.watch.STALL_SECONDS", 0.5)

    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            await until(lambda: bench.record and bench.record.state == "ready")
            bench.engine.hung = True
            assert bench.run is not None
            with pytest.raises(EngineBroken, match="has not answered"):
                await asyncio.wait_for(bench.run, 5)

    run(scenario, client, tmp_path)


def test_a_group_that_takes_too_long_ends_the_worker(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path, wait_seconds=0.5) as bench:
            bench.publish(version=1, step=0)
            bench.engine.token_seconds = 5.0
            bench.dispatch()
            assert bench.run is not None
            with pytest.raises(EngineBroken, match=r"groups \[0\] took longer"):
                await asyncio.wait_for(bench.run, 5)

    run(scenario, client, tmp_path)


def test_groups_of_a_dead_worker_are_taken_over(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            dead = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-0")
            for _ in range(5):
                bench.dispatch()
                assert dead.take() is not None
            bench.publish(version=1, step=0)
            await until(lambda: len(bench.handed_over()) == 5)

    run(scenario, client, tmp_path)


def test_leases_last_while_the_engine_turns(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            other = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2")
            bench.publish(version=1, step=0)
            bench.engine.token_seconds = 0.02
            bench.dispatch(max_tokens=75)
            await until(lambda: bench.engine.running)
            while not bench.handed_over():
                assert other.take_over(0.5) == []
                await asyncio.sleep(0.05)

    run(scenario, client, tmp_path)


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"payload": b"\xff\xff"}, "undecodable"),
        ({"prompt_token_ids": ints([1] * 2000)}, "out_of_bounds"),
        ({"max_tokens": 201}, "out_of_bounds"),
        ({"temperature": 0.0}, "out_of_bounds"),
        ({"prompt_token_ids": ints([REFUSED_TOKEN])}, "request_refused"),
    ],
)
def test_what_cannot_be_sampled_goes_on_as_malformed(
    client: Client, tmp_path: Path, broken: dict[str, Any], code: str
) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            number, fine = bench.dispatch(**broken), bench.dispatch()
            await until(lambda: len(bench.handed_over()) == 2)
            failure = bench.handed_over()[number].failure
            assert (failure.reason, failure.code) == ("malformed", code)
            assert bench.handed_over()[number].task.group_number == number
            assert len(bench.handed_over()[fine].trajectories) == 2
            await until(lambda: client.xlen(keys.stream(JOB, DEAD)) == 1)

    run(scenario, client, tmp_path)


def test_a_task_of_another_number_is_malformed(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            number = bench.dispatch(payload=encode(task_of(17)))
            await until(bench.handed_over)
            assert bench.handed_over()[number].failure.detail.startswith("group_number")

    run(scenario, client, tmp_path)


def test_a_group_held_at_five_deaths_is_poison(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            number = bench.dispatch()
            assert Stage(client, JOB, PROMPTS, TRAJECTORIES, "dead-0").take() is not None
            for death in range(1, 5):
                streams.release_consumer(client, JOB, f"dead-{death - 1}")
                (entry,) = Stage(client, JOB, PROMPTS, TRAJECTORIES, f"dead-{death}").take_over(60.0)
                assert entry.deaths == death
            streams.release_consumer(client, JOB, "dead-4")
            bench.publish(version=1, step=0)
            await until(bench.handed_over)
            assert bench.handed_over()[number].failure.reason == "poison"
            assert bench.engine.requests == []

    run(scenario, client, tmp_path)


def test_draining_finishes_what_is_in_work(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            for _ in range(4):
                bench.dispatch(max_tokens=100)
            await until(lambda: bench.engine.running == 2)
            assert await bench.drained() == "drained"
            assert sorted(bench.handed_over()) == [0, 1]
            assert len(bench.engine.requests) == 2

    run(scenario, client, tmp_path)


def test_draining_gives_back_what_takes_too_long(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path, drain_seconds=0.2) as bench:
            bench.publish(version=1, step=0)
            bench.engine.token_seconds = 1.0
            bench.dispatch()
            await until(lambda: bench.engine.running)
            assert await bench.drained() == "drained"
            assert bench.engine.running == 0
            taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
            assert [(entry.number, entry.deaths) for entry in taken] == [(0, 0)]

    run(scenario, client, tmp_path)


def test_draining_before_weights_are_published_ends_at_once(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            assert await bench.drained() == "drained"
            assert bench.engine.loaded == []

    run(scenario, client, tmp_path)


def test_an_evaluation_has_a_place_while_training_takes_all_others(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            for _ in range(2):
                bench.dispatch(max_tokens=200)
            await until(lambda: bench.engine.running == 2)
            for row in range(3):
                bench.evaluate(row, max_tokens=10)
            await until(lambda: bench.engine.running == 3)
            assert bench.engine.requests[-1].background and bench.engine.requests[-1].temperature == 0.0
            await until(lambda: len(bench.handed_over(EVAL_TRAJECTORIES)) == 3)
            assert bench.handed_over() == {}

    run(scenario, client, tmp_path)


def test_an_evaluation_takes_no_place_of_training(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            bench.evaluate(0, max_tokens=200)
            await until(lambda: bench.engine.running == 1)
            for _ in range(3):
                bench.dispatch(max_tokens=200)
            await until(lambda: bench.engine.running == 3)

    run(scenario, client, tmp_path)


def test_evaluations_take_all_places_that_training_leaves(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            for row in range(6):
                bench.evaluate(row, max_tokens=30)
            await until(lambda: bench.engine.running == 2)
            await until(lambda: len(bench.handed_over(EVAL_TRAJECTORIES)) == 6)

    run(scenario, client, tmp_path)


def test_an_evaluation_that_spans_two_versions_is_run_again(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            bench.evaluate(5, max_tokens=100)
            await until(lambda: bench.engine.running)
            await asyncio.sleep(0.05)
            bench.publish(version=2, step=1)
            await until(lambda: bench.handed_over(EVAL_TRAJECTORIES))
            (trajectory,) = bench.handed_over(EVAL_TRAJECTORIES)[5].trajectories
            assert [span.version for span in trajectory.version_spans] == [2]
            assert len(bench.engine.requests) == 2

    run(scenario, client, tmp_path)


def test_an_evaluation_whose_streams_are_removed_is_let_go(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            bench.evaluate(0, max_tokens=100)
            await until(lambda: bench.engine.running)
            client.delete(keys.stream(JOB, EVAL_PROMPTS))
            await until(lambda: not bench.engine.running)
            number = bench.dispatch()
            await until(lambda: number in bench.handed_over())
            assert bench.handed_over(EVAL_TRAJECTORIES) == {}

    run(scenario, client, tmp_path)


def test_a_version_collected_before_it_was_loaded_is_passed_over(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            gone = tmp_path / "weights" / "v00000001"
            Progress(client).publish(JOB, epoch=1, version=1, step=0, path=str(gone))
            bench.publish(version=2, step=1)
            await until(lambda: bench.engine.loaded == [2])

    run(scenario, client, tmp_path)


def test_the_newest_version_missing_is_a_typed_end(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            bench.publish(version=1, step=0)
            await until(lambda: bench.engine.loaded == [1])
            shutil.rmtree(tmp_path / "weights" / "v00000001")
            gone = tmp_path / "weights" / "v00000002"
            Progress(client).publish(JOB, epoch=1, version=2, step=1, path=str(gone))
            assert bench.run is not None
            with pytest.raises(VersionGone):
                await asyncio.wait_for(bench.run, 5)

    run(scenario, client, tmp_path)


def test_the_heart_beats_and_leases_last_during_a_slow_load(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path) as bench:
            other = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2")
            bench.publish(version=1, step=0)
            bench.engine.token_seconds = 0.02
            bench.dispatch(max_tokens=100)
            await until(lambda: bench.engine.running)
            bench.engine.load_seconds = 1.2
            bench.publish(version=2, step=1)
            await until(lambda: bench.record and bench.record.state == "syncing")
            beats = set()
            while bench.engine.loaded == [1]:
                assert bench.record is not None and other.take_over(0.5) == []
                beats.add(bench.record.heartbeat)
                await asyncio.sleep(0.05)
            assert len(beats) > 5

    run(scenario, client, tmp_path)


def test_a_load_has_a_deadline(client: Client, tmp_path: Path) -> None:
    async def scenario(client: Client, tmp_path: Path) -> None:
        async with started(client, tmp_path, wait_seconds=0.5) as bench:
            bench.engine.load_seconds = 60.0
            bench.publish(version=1, step=0)
            assert bench.run is not None
            with pytest.raises(EngineBroken, match="loading weights took longer"):
                await asyncio.wait_for(bench.run, 5)

    run(scenario, client, tmp_path)

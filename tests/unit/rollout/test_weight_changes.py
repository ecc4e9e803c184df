"""New weights while groups are sampled: what is labelled, what waits, and what ends the worker."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from services.rollout.engine import EngineBroken, LoadRefused
from services.rollout.proven_weights import CanaryFailed
from services.rollout.worker import NoWeights
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import PROMPTS, TRAJECTORIES
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.tallies import Tallies
from services.weights.file_store import VersionGone
from tests.support.counted import Counted

from .bench import JOB, Bench, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("settings", [{"wait_seconds": 0.3}])
async def test_no_weights_is_a_typed_end(bench: Bench) -> None:
    with pytest.raises(NoWeights):
        await bench.end()
    assert bench.error_codes == ["NoWeights"]
    assert bench.record is not None and bench.record.state == "failed"


async def test_weights_change_in_mid_generation(bench: Bench, client: Client) -> None:
    bench.publish(version=1, step=0)
    bench.dispatch(max_tokens=200)
    await until(lambda: bench.engine.running)
    await until(lambda: bench.engine.tokens > 10)
    bench.publish(version=2, step=1)
    await until(bench.handed_over)
    (trajectory, _) = bench.handed_over()[0].trajectories
    assert [(span.version, span.step) for span in trajectory.version_spans] == [(1, 0), (2, 1)]
    assert streams.read_after(client, JOB, TRAJECTORIES, "0")[0].step == 0
    await until(lambda: bench.record and bench.record.policy_version == 2)


async def test_a_group_issued_after_a_publish_is_sampled_under_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.rollout.following.POLL_SECONDS", 0.3)  # the prompt is seen long before the next look
    bench.publish(version=1, step=0)
    bench.dispatch(max_tokens=100)
    await until(lambda: bench.engine.running)
    for version in range(2, 8):
        bench.publish(version=version, step=version)
        number = bench.dispatch(step=version)
        await until(lambda: number in bench.handed_over())  # noqa: B023
        (span,) = bench.handed_over()[number].trajectories[0].version_spans
        assert span.version == version


async def test_a_group_waits_for_the_verdict_on_its_versions(bench: Bench) -> None:
    bench.publish(version=1, step=0)
    number = bench.dispatch(max_tokens=60)
    await until(lambda: bench.engine.running)
    bench.engine.hold_canary.clear()
    bench.publish(version=2, step=1)
    await until(lambda: bench.engine.loaded == [1, 2] and not bench.engine.running)
    await bench.beats(3)
    assert bench.handed_over() == {}
    assert bench.record is not None and (bench.record.state, bench.record.policy_version) == ("syncing", 1)
    bench.engine.hold_canary.set()
    await until(lambda: number in bench.handed_over())


async def test_a_failed_canary_ends_the_worker_and_returns_its_groups(bench: Bench, client: Client) -> None:
    counted = Counted()
    bench.publish(version=1, step=0)
    for _ in range(2):
        bench.dispatch(max_tokens=100)
    await until(lambda: bench.engine.running == 2)
    bench.engine.wrong_canaries = {2}
    bench.publish(version=2, step=1)
    with pytest.raises(CanaryFailed, match="version 2"):
        await bench.end()
    assert bench.handed_over() == {}
    assert bench.error_codes == ["CanaryFailed"]
    assert bench.engine.stopped
    assert counted("sspo_weight_sync_failures_total", cause="CanaryFailed") == 1
    tallies = Tallies(client).read(JOB)
    assert tallies.canary_failures == 1 and time.time() - tallies.canary_failed_at < 60
    # Given back: another worker has them at once, and no death is counted.
    taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
    assert [(entry.number, entry.deaths) for entry in taken] == [(0, 0), (1, 0)]


async def test_a_refused_version_ends_the_worker_and_returns_its_groups(bench: Bench, client: Client) -> None:
    bench.publish(version=1, step=0)
    bench.dispatch(max_tokens=100)
    await until(lambda: bench.engine.running)
    bench.engine.load_error = LoadRefused("sha256")
    bench.publish(version=2, step=1)
    with pytest.raises(LoadRefused):
        await bench.end()
    taken = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2").take_over(60.0)
    assert [entry.deaths for entry in taken] == [0]


async def test_a_version_collected_before_it_was_loaded_is_passed_over(
    bench: Bench, client: Client, tmp_path: Path
) -> None:
    gone = tmp_path / "weights" / "v00000001"
    Progress(client).publish(JOB, epoch=1, version=1, step=0, path=str(gone))
    bench.publish(version=2, step=1)
    await until(lambda: bench.engine.loaded == [2])


async def test_the_newest_version_missing_is_a_typed_end(bench: Bench, client: Client, tmp_path: Path) -> None:
    bench.publish(version=1, step=0)
    await until(lambda: bench.engine.loaded == [1])
    shutil.rmtree(tmp_path / "weights" / "v00000001")
    gone = tmp_path / "weights" / "v00000002"
    Progress(client).publish(JOB, epoch=1, version=2, step=1, path=str(gone))
    with pytest.raises(VersionGone):
        await bench.end()


async def test_the_heart_beats_and_leases_last_during_a_slow_load(bench: Bench, client: Client) -> None:
    other = Stage(client, JOB, PROMPTS, TRAJECTORIES, "rollout-2")
    bench.publish(version=1, step=0)
    bench.engine.token_seconds = 0.02
    bench.dispatch(max_tokens=100)
    await until(lambda: bench.engine.running)
    bench.engine.hold_load.clear()
    bench.publish(version=2, step=1)
    await until(lambda: bench.record and bench.record.state == "syncing")
    for _ in range(6):
        await bench.beats(1)
        assert other.take_over(0.5) == [] and bench.engine.loaded == [1]
    bench.engine.hold_load.set()
    await until(lambda: bench.engine.loaded == [1, 2])


@pytest.mark.parametrize("settings", [{"wait_seconds": 0.5}])
async def test_a_load_has_a_deadline(bench: Bench) -> None:
    bench.engine.load_seconds = 60.0
    bench.publish(version=1, step=0)
    with pytest.raises(EngineBroken, match="loading weights took longer"):
        await bench.end()

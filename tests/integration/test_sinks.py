"""Step records at TensorBoard and Weights & Biases, read back with the libraries' own readers; sinks that fail."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.disk.layout import Layout
from services.job.spec import JobSpec, SinksSpec, WandbSpec
from services.learner.opening import open_learner
from services.learner.reports import sinks as sinks_module
from services.learner.reports.sinks import Sinks, figures_of
from services.records.step import StepRecord
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.steps import Steps
from tests.support.learning import fill, renamed
from tests.support.tiny import job_spec

pytestmark = pytest.mark.timeout(120)
RECORD = {
    "step": 0,
    "time": 12.0,
    "replayed": False,
    "reward_mean": 0.5,
    "loss": None,
    "waits": {"batch": 2.0},
    "guard": {"level": 1, "actions": ["warn"]},
    "drift": {
        "kl_k3": 0.02,
        "mismatch": {"kl_k3": 0.001, "source": "bucket"},
        "histograms": {"ratio_histogram": [1.0] * 13},
        "by_staleness": {"0": {"ratio_sum": 3.0}},
        "buckets": {"0/1": {"kl_k3": 0.03, "tokens": 7.0}},
    },
}


def record(step: int, reward: float) -> StepRecord:
    return StepRecord.model_validate({**RECORD, "step": step, "reward_mean": reward})


def spec_with(job_id: str = "ftjob-sinks", *, tensorboard: bool = True, wandb: bool = False) -> JobSpec:
    asked = WandbSpec(project="study", name="first", tags=("t",)) if wandb else None
    return job_spec(job_id).model_copy(update={"sinks": SinksSpec(tensorboard=tensorboard), "wandb": asked})


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) as TensorBoard would draw them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, round(event.value, 6)) for event in events.Scalars(tag)]


def history(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of all runs below a folder, oldest run first, in W&B's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        for data in chunks(path.read_bytes()):
            message = Record.FromString(data)
            if message.HasField("history"):
                items = message.history.item
                yield {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}


def chunks(file: bytes) -> Iterator[bytes]:
    """The messages of a `.wandb` file: a LevelDB log, with 7 bytes of its own in front. The package has no reader."""
    assert file[:4] == b":W&B"
    at, message = 7, b""
    while at + 7 <= len(file):
        left = 32768 - at % 32768
        if left < 7:  # blocks end with padding
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", file, at)
        message += file[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield message
            message = b""


def test_the_numbers_of_a_record_have_short_names() -> None:
    assert dict(figures_of(StepRecord.model_validate(RECORD))) == {
        "job/reward_mean": 0.5,
        "job/waits/batch": 2.0,
        "job/guard/level": 1.0,
        "drift/kl_k3": 0.02,
        "drift/mismatch/kl_k3": 0.001,
        "buckets/0-1/kl_k3": 0.03,
    }


def test_tensorboard_shows_the_lineage_that_survives(tmp_path: Path) -> None:
    warnings: list[str] = []
    spec, folder = spec_with(), Layout(tmp_path).job("ftjob-sinks")
    first = Sinks(spec, folder, warnings.append)
    for step, reward in ((0, 0.1), (1, 0.2), (2, 0.3), (1, 0.4)):  # after step 2 it goes back to step 1
        first.put(record(step, reward))
    first.close()
    assert scalars(folder.tensorboard, "job/reward_mean") == [(0, 0.1), (1, 0.4)]
    time.sleep(1.1)  # files are read in the order of their names, which carry seconds
    again = Sinks(spec, folder, warnings.append)  # a learner that starts again, and replays step 1
    again.put(record(1, 0.4))
    again.put(record(2, 0.5))
    again.close()
    assert scalars(folder.tensorboard, "job/reward_mean") == [(0, 0.1), (1, 0.4), (2, 0.5)]
    assert scalars(folder.tensorboard, "buckets/0-1/kl_k3")[-1] == (2, 0.03)
    assert not warnings


def test_wandb_goes_on_with_the_run_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    warnings: list[str] = []
    spec, folder = spec_with(tensorboard=False, wandb=True), Layout(tmp_path).job("ftjob-sinks")
    for steps in ((0, 1), (1, 2)):
        sinks = Sinks(spec, folder, warnings.append)
        for step in steps:
            sinks.put(record(step, 0.1 * step))
        sinks.close()
    assert not warnings
    rows = list(history(folder.wandb))
    assert [(row["step"], row["job/reward_mean"]) for row in rows] == [(0, 0.0), (1, 0.1), (1, 0.1), (2, 0.2)]
    assert {path.name for path in folder.wandb.glob("offline-run-*/*.wandb")} == {"run-ftjob-sinks.wandb"}


def test_a_sink_that_fails_is_told_of_once_and_ends_no_job(
    client: Client, layout: Layout, groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, step: int, figures: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("services.learner.reports.tensorboard_sink.TensorBoardSink.write", full)
    spec = spec_with("ftjob-full")
    fill(client, spec, groups[:6])
    assert open_learner(spec, client, layout).run() == "finished"
    assert len(Steps(client, layout).since(spec.job_id)) == 3
    told = [event.message for event in Events(client).list(spec.job_id)[0] if "TensorBoard" in event.message]
    assert told == ["TensorBoard gets no more figures of this job: OSError: no space left"]


def test_a_library_that_is_not_installed_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    warnings: list[str] = []
    sinks = Sinks(spec_with(tensorboard=False, wandb=True), Layout(tmp_path).job("j"), warnings.append)
    sinks.put(record(0, 0.5))
    sinks.close()
    assert len(warnings) == 1 and "ModuleNotFoundError" in warnings[0]


def test_a_sink_that_hangs_stalls_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(
        "services.learner.reports.tensorboard_sink.TensorBoardSink.write", lambda self, step, figures: released.wait(60)
    )
    monkeypatch.setattr(sinks_module, "QUEUED_RECORDS", 4)
    warnings: list[str] = []
    sinks = Sinks(spec_with(), Layout(tmp_path).job("j"), warnings.append)
    began = time.monotonic()
    for step in range(20):
        sinks.put(record(step, 0.5))
    sinks.close(seconds=0.2)
    released.set()
    assert time.monotonic() - began < 5
    assert warnings == ["TensorBoard gets no more figures of this job: it is 4 records behind"]


def test_a_learners_records_arrive(client: Client, layout: Layout, groups: list[bytes]) -> None:
    spec = spec_with("ftjob-tb")
    fill(client, spec, [renamed(group, "ftjob-tb") for group in groups[:6]])
    assert open_learner(spec, client, layout).run() == "finished"
    said = [round(one.drift.kl_k3 or 0.0, 6) for one in Steps(client, layout).since(spec.job_id)]
    shown = scalars(layout.job(spec.job_id).tensorboard, "drift/kl_k3")
    assert [step for step, _ in shown] == [0, 1, 2]
    assert [value for _, value in shown] == pytest.approx(said, rel=1e-4, abs=1e-6)


def test_the_key_of_wandb_is_nowhere(tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "01234567")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = Layout(tmp_path).job("j")
    sinks = Sinks(spec_with(tensorboard=False, wandb=True), folder, lambda text: None)
    sinks.put(record(0, 0.5))
    sinks.close()
    written = [path for path in folder.root.rglob("*") if path.is_file()]
    assert written and not any(b"0123456789abcdef" in path.read_bytes() for path in written)

"""Jobs for a learner without rollout workers: scored groups lie in the stream, the model is tiny."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.learner.loop import Learner
from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import PROMPTS, SCORED
from services.trajectories.ledger import Ledger
from services.trajectories.stage import Stage
from sspo_proto.trajectory_pb2 import Group
from tests.support.tiny import create_job, job_spec, scored_group, write_model
from tests.support.waiting import wait_until


def layout_with_model(root: Path) -> Layout:
    """A data folder with the model `tiny`."""
    found = Layout(root)
    write_model(found.models / "tiny")
    return found


def sample_groups(root: Path, count: int) -> list[bytes]:
    """Groups sampled from the model that every such job starts with."""
    layout = layout_with_model(root)
    return [scored_group(layout, job_spec(), number) for number in range(count)]


def renamed(payload: bytes, job_id: str, number: int | None = None) -> bytes:
    """The same group as one of another job, and with another number if one is given."""
    group = Group.FromString(payload)
    group.task.job_id = job_id
    if number is not None:
        group.task.group_number = number
    return group.SerializeToString(deterministic=True)


def put(client: Client, spec: JobSpec, payloads: Mapping[int, bytes], step: int = 0) -> None:
    """Issue these numbers, ascending, and put their groups where reward workers would."""
    stage = Stage(client, spec.job_id, PROMPTS, SCORED, "test")
    for number, payload in sorted(payloads.items()):
        client.set(keys.cursor(spec.job_id), number)
        assert streams.dispatch(client, spec.job_id, number, b"task", step)
        entry = stage.take()
        assert entry is not None and stage.hand_over(entry, payload, step)


def fill(client: Client, spec: JobSpec, groups: Sequence[bytes]) -> None:
    """Create the job and put its groups, numbered from 0."""
    create_job(client, spec)
    streams.prepare(client, spec.job_id)
    put(client, spec, {number: renamed(payload, spec.job_id) for number, payload in enumerate(groups)})


def run_until_it_waits(learner: Learner, *, step: int) -> str:
    """Run a learner until it waits for the batch of `step`, and stop it then; how it ended."""

    def stop() -> None:
        wait_until(lambda: learner.pulse.phase == "waiting_for_batch" and learner.step == step)
        learner.pulse.stop()

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    outcome = learner.run()
    stopping.join()
    return outcome


def exported(layout: Layout, spec: JobSpec) -> dict[str, torch.Tensor]:
    """The weights of a job that has finished."""
    return load_file(layout.job(spec.job_id).export / "model.safetensors")


def same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_ledger(client: Client, spec: JobSpec, *, trained: int, **dropped: int) -> None:
    """The ledger adds up, and these are its counts."""
    snapshot = Ledger(client).snapshot(spec.job_id)
    assert (snapshot.trained, snapshot.dropped) == (trained, dropped), snapshot
    assert snapshot.balanced, snapshot


def single(job_id: str = "ftjob-1", **learner: Any) -> JobSpec:
    """Six steps of one group each, a checkpoint after every second, the newest two kept."""
    settings = {"steps": 6, "batch_size": 1, "checkpoint_every": 2, "keep_checkpoints": 2, "max_staleness": 9}
    return job_spec(job_id, **{**settings, **learner})


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

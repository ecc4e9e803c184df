"""The backend of one process: what it promises beyond what its parts do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from services.disk import folder_version
from services.disk.layout import Layout
from services.job.objective import resolved_objective
from services.learner import opening
from services.learner.errors import OutOfMemory, WrongFolder
from services.learner.model import snapshot
from services.learner.model.local import LocalBackend
from services.store.client import Client
from services.trajectories.codec import decode_group
from services.trajectories.progress import Progress
from sspo_proto.trajectory_pb2 import Group
from tests.support.fake_backend import FakeBackend
from tests.support.tiny import create_job, job_spec, scored_group, write_model

SPEC = job_spec()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    write_model(found.models / "tiny")
    return found


NOWHERE = Path("/nowhere")
ASKED: dict[str, Callable[[LocalBackend], object]] = {
    "train": lambda backend: backend.train([], 0, SPEC),
    "token_weights": LocalBackend.token_weights,
    "keep": LocalBackend.keep,
    "recompute": lambda backend: backend.recompute(Group()),
    "capture": LocalBackend.capture,
    "load": lambda backend: backend.load(NOWHERE, {}, backend.state),
    "compare": lambda backend: backend.compare(NOWHERE, {}),
    "weights_sha256": LocalBackend.weights_sha256,
    "publish": lambda backend: backend.publish(NOWHERE, version=1, step=0),
    "export": lambda backend: backend.export(NOWHERE),
    "gate_curve": lambda backend: backend.gate_curve(SPEC),
}
WORKING = (
    "local.host_copy",
    "local.publish",
    "local.weights_sha256",
    "gate_curve.gate_curve",
    "policy.Policy.export",
    "recomputing.recompute",
    "snapshot.read",
    "token_log.TokenLog.read",
    "trainer.Trainer.train",
)
"""Where the methods of a backend do their work."""


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_whatever_runs_out_of_memory_says_so(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, ask: Callable[[LocalBackend], object]
) -> None:
    backend = LocalBackend(SPEC, layout.model("tiny"))
    backend.keep()

    def full(*about: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for name in WORKING:
        monkeypatch.setattr(f"services.learner.model.{name}", full)
    with pytest.raises(OutOfMemory, match="do not fit into memory"):
        ask(backend)


def test_the_model_of_the_start_is_loaded_once_however_often_settings_change(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.model_copy(update={"objective": resolved_objective({"name": "grpo", "kl_coefficient": 0.1})})
    backend = LocalBackend(spec, layout.model("tiny"))

    def loads(*about: object) -> None:
        raise AssertionError("the model of the start is there already")

    monkeypatch.setattr("services.learner.model.trainer.Policy", loads)
    slower = spec.learner.model_copy(update={"learning_rate": 1e-9})
    payload = scored_group(layout, spec, 0)
    backend.train([decode_group(payload)], 0, spec.model_copy(update={"learner": slower}))


def test_a_checkpoint_of_another_model_changes_nothing(layout: Layout, tmp_path: Path) -> None:
    backend = LocalBackend(SPEC, layout.model("tiny"))
    before = backend.weights_sha256()
    other = snapshot.HostCopy({name: torch.zeros(3) for name in backend.capture().model}, {})
    folder = tmp_path / "other"
    folder.mkdir()
    with pytest.raises(ValueError, match="differ in the shapes of"):
        backend.load(folder, other.write(folder), backend.state)
    assert backend.weights_sha256() == before


def test_a_job_says_that_its_learner_starts_before_the_model_is_loaded(
    client: Client, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_job(client, SPEC)
    Progress(client).set(SPEC.job_id, phase="training")  # where the one before died
    seen: list[str] = []

    def loads(*about: object) -> FakeBackend:
        seen.append(Progress(client).read(SPEC.job_id).phase)
        return FakeBackend()

    monkeypatch.setattr(opening, "open_backend", loads)
    opening.open_learner(SPEC, client, layout)
    assert seen == ["starting"]


def test_a_newer_folder_is_refused_before_a_model_is_loaded(
    client: Client, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_version.write(layout, folder_version.SCHEMA_VERSION + 1)
    monkeypatch.setattr(opening, "open_backend", lambda *about: pytest.fail("loaded"))
    with pytest.raises(WrongFolder):
        opening.open_learner(SPEC, client, layout)

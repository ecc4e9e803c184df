"""The backend of one process: what it promises beyond what its parts do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from services.disk import folder_version
from services.disk.layout import Layout
from services.learner import opening
from services.learner.errors import OutOfMemory, WrongFolder
from services.learner.model import local, snapshot
from services.learner.model.local import LocalBackend
from services.store.client import Client
from services.trajectories.progress import Progress
from tests.support.fake_backend import FakeBackend
from tests.support.tiny import create_job, job_spec, write_model

SPEC = job_spec()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    write_model(found.models / "tiny")
    return found


@pytest.mark.parametrize(
    "ask",
    [
        LocalBackend.keep,
        LocalBackend.capture,
        LocalBackend.weights_sha256,
        lambda backend: backend.export(Path("/nowhere")),
    ],
    ids=["keep", "capture", "weights_sha256", "export"],
)
def test_whatever_runs_out_of_memory_says_so(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, ask: Callable[[LocalBackend], object]
) -> None:
    backend = LocalBackend(SPEC, layout.model("tiny"))

    def full(*about: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(local, "host_copy", full)
    monkeypatch.setattr(local, "weights_sha256", full)
    monkeypatch.setattr("services.learner.model.policy.Policy.export", full)
    with pytest.raises(OutOfMemory, match="do not fit into memory"):
        ask(backend)


def test_a_checkpoint_of_another_model_changes_nothing(layout: Layout, tmp_path: Path) -> None:
    backend = LocalBackend(SPEC, layout.model("tiny"))
    before = backend.weights_sha256()
    other = snapshot.Snapshot({name: torch.zeros(3) for name in backend.capture().model}, {})
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

"""One running service for the tests that need it: `sspo up` on a folder with the demo's starter model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.layout import Layout
from tests.support.learning import layout_with_model, sample_groups
from tests.support.service import RunningService


@pytest.fixture
def service(running_service: RunningService) -> Iterator[RunningService]:
    """The running service; a job that a failed test leaves behind is cancelled, so that the next test has its turn."""
    yield running_service
    running_service.cancel_jobs()


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """`sspo up`, started once, with the demo's model and files prepared beside it."""
    running = RunningService(tmp_path_factory.mktemp("service"))
    running.prepare()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A data folder with the model `tiny`."""
    return layout_with_model(tmp_path)


@pytest.fixture(scope="session")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Eight groups, sampled once from the model that every learner's test starts with."""
    return sample_groups(tmp_path_factory.mktemp("groups"), 8)

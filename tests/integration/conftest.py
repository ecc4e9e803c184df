"""One running service for the tests that need it: `sspo up` on a folder with the demo's starter model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.service import RunningService


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """`sspo up`, started once, with the demo's model and files prepared beside it."""
    running = RunningService(tmp_path_factory.mktemp("service"))
    running.prepare()
    running.start()
    yield running
    running.stop()

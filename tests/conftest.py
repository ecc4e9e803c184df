"""Shared fixtures, each made once: a private Redis, emptied before each test, and a running service.

`tests/support/sharing.py` says which tests run in one process when there are several.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.store.client import Client, connect
from testbed.redis_server import RedisServer
from tests.support.service import ENDED_STEPS, RunningService
from tests.support.sharing import pytest_collection_modifyitems as pytest_collection_modifyitems
from tests.support.sharing import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A private redis-server on a unix socket, without persistence."""
    with tempfile.TemporaryDirectory(prefix="sspo-t") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server.url
        server.kill()


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    """A client of the private Redis, which is emptied first."""
    connected = connect(redis_url)
    connected.flushall()
    yield connected
    connected.close()


@pytest.fixture
def service(running_service: RunningService) -> Iterator[RunningService]:
    """The running service; a job that a failed test leaves behind is cancelled, so that the next test has its turn."""
    yield running_service
    running_service.cancel_jobs()


@pytest.fixture(scope="session")
def ended_job(running_service: RunningService) -> str:
    """A short job of the running service that has succeeded; for those who only look at it."""
    learner = {"batch_size": 8, "updates_per_step": 1, "max_staleness": 4, "steps": ENDED_STEPS}
    job_id = running_service.submit(learner=learner)
    running_service.wait_for(job_id, lambda view: view["status"] == "succeeded", 240)
    return job_id


@pytest.fixture(scope="session")
def running_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """`sspo up`, started once, with the demo's model and files prepared beside it."""
    running = RunningService(tmp_path_factory.mktemp("service"))
    running.prepare()
    running.start()
    yield running
    running.stop()

"""The engine's own process: it answers, and it listens on loopback alone."""

from __future__ import annotations

import os

import pytest

from tests.support.engine_bench import Bench
from tests.support.listeners import listening, may_move

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # of third parties, while they are imported and run in this process
]


def test_a_healthy_engine_answers_a_check_and_names_its_process(bench: Bench) -> None:
    bench.loop.run(bench.engine.check())
    assert bench.engine.pid is not None and bench.engine.pid != os.getpid()


@pytest.mark.skipif(not may_move(), reason="namespaces of our own need root")
def test_an_engine_listens_on_loopback_alone(untied: Bench) -> None:
    """Nothing but the API may be reached from another machine, whatever the host's name resolves to."""
    assert untied.engine.pid is not None
    found = listening(untied.engine.pid)
    assert found and all(address.is_loopback for address in found), found

"""The engine's own process: it answers, and it listens on loopback alone."""

from __future__ import annotations

import os

import pytest

from tests.support.engine_bench import (
    Bench,
)

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # of third parties, while they are imported and run in this process
]


def test_a_healthy_engine_answers_a_check_and_names_its_process(bench: Bench) -> None:
    bench.loop.run(bench.engine.check())
    assert bench.engine.pid is not None and bench.engine.pid != os.getpid()

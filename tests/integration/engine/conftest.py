"""Two engines serve all tests here: one with tied embeddings, one without. Every test publishes versions of its own,
so their order doesn't matter.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine_bench import Bench, started_engine
from tests.support.listeners import may_move


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with started_engine(True, tmp_path_factory.mktemp("tied")) as bench:
        yield bench


@pytest.fixture(scope="session")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """On a machine whose name doesn't resolve to loopback, where we may have one."""
    with started_engine(False, tmp_path_factory.mktemp("untied"), elsewhere=may_move()) as bench:
        yield bench


@pytest.fixture(params=["tied", "untied"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found

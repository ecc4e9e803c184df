"""A data folder with a model, and groups sampled from it, for learners without a service."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.disk.layout import Layout
from tests.support.learning import layout_with_model, sample_groups


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A data folder with the model `tiny`."""
    return layout_with_model(tmp_path)


@pytest.fixture(scope="session")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Eight groups, sampled once from the model that every learner's test starts with."""
    return sample_groups(tmp_path_factory.mktemp("groups"), 8)

"""Which tests run in one process of a parallel run, and which groups begin first.

The hooks are those of `tests/conftest.py`. Under pytest-xdist every process has the session's fixtures for itself. A
service, an engine or a browser takes longer to start than a test takes to run, so the tests of a folder that share one
form a group, and a group is run by one process. All other tests are grouped by file. The longest groups begin first.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

GROUPS = (
    ("tests/integration/service/", "tests/chaos/test_short.py"),
    ("tests/integration/engine/",),
    ("tests/browser/",),
    ("tests/integration/",),
    ("tests/contract/",),
)
"""Paths whose tests share something expensive, the longest group first; a test belongs to the first that fits.

Whole services and the short chaos run are one group, since two of them at once outgrow two processors.
"""


def place_of(nodeid: str) -> int:
    """The place of a test's group in the table; behind all of them for the rest."""
    return next((place for place, paths in enumerate(GROUPS) if nodeid.startswith(paths)), len(GROUPS))


class SharedFixtures(LoadScopeScheduling):
    """Hands out whole groups, in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        place = place_of(nodeid)
        return GROUPS[place][0] if place < len(GROUPS) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> SharedFixtures:
    """Takes the place of `--dist`'s schedulers."""
    config.option.loadscopereorder = False
    return SharedFixtures(config, log)  # type: ignore[arg-type]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of a parallel run, sort the groups. Elsewhere the order stays that of the files."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(item.nodeid))

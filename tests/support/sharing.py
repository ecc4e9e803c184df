"""Which tests have to run in one process of a parallel run, and which groups begin first.

Its hook is one of `tests/conftest.py`. Under pytest-xdist every process has the session's fixtures for itself. A
service, an engine or a browser takes longer to start than a test takes to run, so all tests that use the same one form
a group, and a group is run by one process. All other tests are grouped by file. Groups that take longest begin first.
"""

from __future__ import annotations

import pytest

SHARED = {
    "running_service": "service",
    "tied": "engine",
    "untied": "engine",
    "bench": "engine",
    "browser": "browser",
    "groups": "learner",
    "session_url": "api",
}
"""Fixture that is expensive to make → name of the group of those who use it, the longest group first."""
ALONE = "system"
"""Marker of tests that start a whole service of their own: first too, but in no group."""


def group_of(item: pytest.Item) -> str:
    """The group of a test: that of the first expensive fixture it uses, or its file."""
    used = getattr(item, "fixturenames", ())
    return next((group for fixture, group in SHARED.items() if fixture in used), item.location[0])


def turn_of(item: pytest.Item) -> int:
    """When the test's group begins: groups of expensive fixtures as in the table, whole services, then the rest."""
    order = [*dict.fromkeys(SHARED.values())]
    group = group_of(item)
    if group in order:
        return order.index(group)
    return 1 if item.get_closest_marker(ALONE) else len(order)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of a parallel run: mark groups, and sort them. Elsewhere the order stays that of the files."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    items.sort(key=turn_of)

"""Tests know no benchmark, and benchmarks no test: what both need is in `testbed`.

import-linter (`make lint`) sees packages only, and most folders of tests are none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported(file: Path) -> Iterator[str]:
    """Names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


@pytest.mark.parametrize(
    ("folder", "stranger", "known"),
    [("tests", "benchmarks", "testbed"), ("benchmarks", "tests", "testbed"), ("testbed", "tests", "services")],
)
def test_none_imports_the_other(folder: str, stranger: str, known: str) -> None:
    found = {file: set(imported(file)) for file in (ROOT / folder).rglob("*.py")}
    assert any(module.split(".")[0] == known for modules in found.values() for module in modules), "it sees imports"
    wrong = {file for file, modules in found.items() if any(module.split(".")[0] == stranger for module in modules)}
    assert wrong == set()

"""Which points `make mutants` finds in a module, and which it leaves alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.points import modules, points_of, sample
from tests.mutants.trial import paths_beside

ROOT = Path(__file__).parents[3]


def changes(source: str) -> list[str]:
    return [point.what for point in points_of("m.py", source.encode())]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["a < b -> (a <= b)"]),
        ("x in y", ["x in y -> (x not in y)"]),
        ("a and b", ["a and b -> (a or b)"]),
        ("not a", ["not a -> (a)"]),
        ("a + b", ["a + b -> (a - b)"]),
        ("x = 3", ["3 -> 4"]),
        ("x = True", ["True -> False"]),
        ("if a:\n    b", ["a -> (not (a))"]),
        ("x = [a for a in b if a]", ["a -> (not (a))"]),
        ("x = min(a, b)", ["min(a, b) -> max(a, b)"]),
        ("x = sorted(a, key=b)", ["sorted(a, key=b) -> list(a)", "sorted without key=b"]),
        ("x = f(a, b=c)", ["f without b=c"]),
        ("f(a)", ["f(a) -> pass"]),
        ("a.b = c", ["a.b = c -> pass"]),
        ("a += b", ["a += b -> pass"]),
        ("raise Broken('words', 1)", ["raise Broken('words', 1) -> pass"]),
        ("def f(a=1):\n    return a", ["1 -> 2", "return a -> return None"]),
        ("def f() -> None:\n    a()\n    b()", ["returns at once", "a() -> pass", "b() -> pass"]),
        ("for a in b:\n    continue", ["continue -> pass"]),
    ],
)
def test_a_point_is_found(source: str, expected: list[str]) -> None:
    assert sorted(changes(source)) == sorted(expected)


@pytest.mark.parametrize(
    "source",
    [
        '"""Words."""',
        "from a import b",
        "assert a < b",
        "log.info('words', a=1)",
        "time.sleep(3)",
        "fault('here')",
        "CHUNK = 64",
        "LONGEST_SECONDS: float = 1.5",
        "def f(a: int = b) -> dict[str, 3]: ...",
        "@frozen(True)\nclass A: ...",
        "x = 1024",
        "x = f'{a + 1} words'",
        "x = 'words' + 'words'",
        "x = a",
        "def f():\n    return None",
        "class A:\n    def __init__(self):\n        self.a = b",
        "x = zip(a, b, strict=True)",
    ],
)
def test_what_no_test_of_behaviour_can_notice_is_no_point(source: str) -> None:
    assert changes(source) == []


def test_a_change_touches_its_point_only_and_stays_python() -> None:
    source = 'class A:\n    def f(self, é: int = 1) -> bool:\n        return "ü" and (self.b\n            and not é)\n'
    found = {point.what: point.apply(source.encode()).decode() for point in points_of("m.py", source.encode())}
    assert found["not é -> (é)"] == source.replace("not é)", "(é))")
    assert found["1 -> 2"] == source.replace("= 1", "= 2")
    for changed in found.values():
        assert changed != source and ast.parse(changed)


def test_a_point_keeps_its_name_when_it_moves() -> None:
    one, moved = (
        points_of("m.py", f"{before}def f():\n    return a == 1 or a == 1\n".encode()) for before in ("", "\n\n")
    )
    assert [point.key for point in one] == [point.key for point in moved]
    assert len({point.key for point in one}) == len(one) and any(point.key.endswith("#2") for point in one)


def test_a_sample_follows_from_its_seed() -> None:
    one, same, other = (sample(ROOT, seed, 20, "services/store") for seed in (1, 1, 2))
    assert one == same != other and len(one) == 20
    assert sample(ROOT, 1, 10, "services/store") == one[:10], "a smaller one is its beginning"
    assert all(point.path.startswith("services/store/") for point in one)


def test_every_sampled_module_has_tests_beside_it() -> None:
    assert "services/drift/guard.py" in modules(ROOT) and "services/learner/loop.py" in modules(ROOT)
    for module in modules(ROOT):
        assert paths_beside(ROOT, module), f"{module}: nothing would notice a change"

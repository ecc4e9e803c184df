"""The demo's questions: right answers, disjoint sets, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.demo.sums import Split, Sum, split, write_rows
from services.job.datasets import iter_rows


@pytest.fixture(scope="module")
def questions() -> Split:
    return split(seed=3)


def pairs(sums: list[Sum]) -> set[frozenset[int]]:
    return {frozenset((one.a, one.b)) for one in sums}


def test_all_sums_are_there_once_and_no_pair_is_in_two_sets(questions: Split) -> None:
    sets = (questions.train, questions.validation, questions.probe)
    everything = [one for part in sets for one in part]
    assert len(everything) == len(set(everything)) == 90 * 90
    train, validation, probe = map(pairs, sets)
    assert not train & validation
    assert not train & probe
    assert not validation & probe


@pytest.mark.parametrize("seed", range(20))
def test_the_held_out_sets_are_large_enough_to_measure_on(seed: int) -> None:
    questions = split(seed)
    assert len(questions.validation) >= 512
    assert len(questions.probe) >= 256


def test_the_seed_decides() -> None:
    assert split(7) == split(7)
    assert split(7).train != split(8).train


def test_rows_read_back_with_the_right_answer(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [Sum(47, 38), Sum(99, 99)])
    rows = list(iter_rows(tmp_path / "rows.jsonl", "rows.jsonl"))
    assert [row.messages for row in rows] == [
        ({"role": "user", "content": "47+38="},),
        ({"role": "user", "content": "99+99="},),
    ]
    assert [row.item for row in rows] == [{"answer": "085"}, {"answer": "198"}]

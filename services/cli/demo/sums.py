"""The demo's questions: two-digit sums, answered with three digits ("47+38=" → "085").

A pair of operands is held out in both orders, so that no held-out question was ever trained on the other way round.
Deterministic in the seed.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_PAIRS = 280
"""Unordered pairs in each of the two held-out sets: more than 512 questions, though 47+47 has no other way round."""


@dataclass(frozen=True)
class Sum:
    """One question."""

    a: int
    b: int

    @property
    def question(self) -> str:
        return f"{self.a:02d}+{self.b:02d}="

    @property
    def answer(self) -> str:
        return f"{self.a + self.b:03d}"


@dataclass(frozen=True)
class Split:
    """Disjoint sets: to train on, to measure on, and to decide when pre-training stops."""

    train: list[Sum]
    validation: list[Sum]
    probe: list[Sum]


def split(seed: int) -> Split:
    """All sums of two two-digit numbers, shuffled and split by pair."""
    pairs = [(a, b) for a in range(10, 100) for b in range(a, 100)]
    random.Random(seed).shuffle(pairs)
    held, probe, rest = pairs[:HELD_OUT_PAIRS], pairs[HELD_OUT_PAIRS : 2 * HELD_OUT_PAIRS], pairs[2 * HELD_OUT_PAIRS :]
    return Split(_both_orders(rest), _both_orders(held), _both_orders(probe))


def write_rows(path: Path, sums: list[Sum]) -> None:
    """One JSON row a question, with the answer for the grader."""
    rows = ({"messages": [{"role": "user", "content": one.question}], "answer": one.answer} for one in sums)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _both_orders(pairs: list[tuple[int, int]]) -> list[Sum]:
    return [Sum(*pair) for a, b in pairs for pair in dict.fromkeys([(a, b), (b, a)])]

"""The canary's tokens, its log-probs, and its verdict."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from services.weights.canary import FLOAT32_LIMIT, canary_tokens, check, compute
from services.weights.manifest import Canary


def test_tokens_are_fixed_by_the_seed_and_never_special() -> None:
    tokens = canary_tokens(50, seed=4, forbidden=range(10))
    assert tokens == canary_tokens(50, seed=4, forbidden=range(10))
    assert tokens != canary_tokens(50, seed=5, forbidden=range(10))
    assert len(tokens) == 24
    assert all(10 <= token < 50 for token in tokens)


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size"):
        canary_tokens(3, seed=0, forbidden=(0, 1))


class Bigram(torch.nn.Module):
    """Logits that depend on the last token only, so that the expected log-probs are easy to write down."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(16, dtype=torch.bfloat16).reshape(4, 4).sin() * 3)

    def forward(self, input_ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def test_logprobs_are_of_each_token_given_those_before() -> None:
    model = Bigram()
    got = compute(model, [2, 0, 3, 3])
    table = model.table.detach().float().log_softmax(-1)
    assert got == pytest.approx([float(table[2, 0]), float(table[0, 3]), float(table[3, 3])], abs=1e-6)


def test_float32_has_to_agree() -> None:
    assert check([-0.5, -1.0], [-0.5, -1.0004], dtype="float32").passed
    failed = check([-0.5, -1.0], [-0.50055, -1.0], dtype="float32", cold_mismatch=1.0)
    assert not failed.passed
    assert failed.limit == FLOAT32_LIMIT
    assert failed.mismatch == pytest.approx(5.5e-4, rel=1e-3)


def test_what_is_next_to_impossible_is_compared_relative_to_its_size() -> None:
    assert check([-40.0], [-40.015], dtype="float32").passed
    assert not check([-40.0], [-40.025], dtype="float32").passed


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_is_measured_by_its_own_cold_load(dtype: str) -> None:
    cold = check([-1.0], [-1.1], dtype=dtype)
    assert cold.passed and cold.mismatch == pytest.approx(0.1)
    assert check([-1.0], [-1.29], dtype=dtype, cold_mismatch=cold.mismatch).passed
    assert not check([-1.0], [-1.31], dtype=dtype, cold_mismatch=cold.mismatch).passed
    assert check([-1.0], [-1.00009], dtype=dtype, cold_mismatch=0.0).passed


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_not_finite_never_passes(wrong: float, dtype: str) -> None:
    assert not check([-1.0, -1.0], [-1.0, wrong], dtype=dtype).passed
    assert not check([-1.0, wrong], [-1.0, wrong], dtype=dtype).passed


def test_an_answer_of_another_length_fails() -> None:
    assert not check([-1.0, -1.0], [-1.0], dtype="bfloat16").passed


def test_a_canary_has_one_logprob_less_than_tokens() -> None:
    with pytest.raises(ValidationError, match="logprobs"):
        Canary(token_ids=(1, 2), logprobs=(-1.0, -1.0))

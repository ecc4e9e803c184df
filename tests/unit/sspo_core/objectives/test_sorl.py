"""The clipping bias of SORL: what the clip takes away from the off-policy gradient, and the scale that follows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sspo_core.config import SORLConfig
from sspo_core.objectives.sorl import clipping_bias, clipping_scale, gradient_norm
from sspo_core.types import Denominators, LossInputs
from tests.unit.sspo_core.batches import MODEST, Batch, batch, evaluate

OPEN = SORLConfig(clip_low=1 - 1e-12, clip_high=1e6)


def bias_gradient(made: Batch, config: SORLConfig, denominators: Denominators | None = None) -> torch.Tensor:
    policy = (made.behaviour + made.z).requires_grad_()
    inputs = LossInputs(
        policy, made.behaviour, made.advantages, made.mask, turn_ids=made.turn_ids, denominators=denominators
    )
    (grad,) = torch.autograd.grad(clipping_bias(inputs, config), policy)
    return grad


@MODEST
@given(seed=st.integers(0, 2**20), spread=st.floats(0.05, 1.5))
def test_off_policy_gradient_is_the_clipped_one_and_the_bias(seed: int, spread: float) -> None:
    made = batch(seed, sequences=9, spread=spread)
    clipped, unclipped = (-evaluate(made, config)[1] for config in (SORLConfig(), OPEN))
    torch.testing.assert_close(clipped + bias_gradient(made, SORLConfig()), unclipped, rtol=1e-10, atol=1e-13)


def test_no_bias_without_a_clip_and_shares_add_up() -> None:
    made = batch(seed=70, sequences=9, spread=0.8)
    assert torch.all(bias_gradient(made, OPEN) == 0)
    denominators = Denominators.of(made.mask)
    whole = bias_gradient(made, SORLConfig())
    parts = [bias_gradient(part, SORLConfig(), denominators) for part in made.cut_at(4)]
    assert whole.abs().max() > 0
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-14)


@MODEST
@given(norm=st.floats(0.0, 1e9), threshold=st.floats(1e-3, 1e3))
def test_scale_only_ever_shrinks_a_step(norm: float, threshold: float) -> None:
    scale = clipping_scale(norm, threshold)
    assert 0.0 < scale <= 1.0
    assert (scale == 1.0) == (norm <= threshold)
    assert scale * norm <= threshold * (1 + 1e-12)


def test_norm_over_parameters() -> None:
    assert float(gradient_norm([torch.tensor([3.0]), None, torch.tensor([[4.0]])])) == 5.0
    assert float(gradient_norm([None])) == 0.0


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("threshold", (1.0, 0.0)),
        ("threshold", (1.0, math.nan)),
        ("bias_norm", (-1.0, 1.0)),
        ("bias_norm", (math.inf, 1.0)),
    ],
)
def test_bad_arguments_are_named(named: str, arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=f"^{named}:"):
        clipping_scale(*arguments)

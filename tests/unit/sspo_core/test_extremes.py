"""Far beyond what training should see: every objective stays finite, value, gradient and figures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sspo_core.config import OBJECTIVES, CorrectionConfig
from sspo_core.diagnostics.ratio_diagnostics import RatioDiagnostics
from sspo_core.losses import policy_loss
from sspo_core.types import LossInputs
from tests.unit.sspo_core.batches import Batch, batch

EVERY = pytest.mark.parametrize("name", sorted(OBJECTIVES))
HARD = CorrectionConfig(importance="truncated", high=5.0, rejection_high=1e5)


def check(made: Batch, config: Any, *, policy: Tensor | None = None, proximal: bool = False) -> Tensor:
    """Loss, gradient and figures are finite; returns the gradient."""
    leaf = ((made.behaviour + made.z) if policy is None else policy).detach().clone().requires_grad_()
    extras = made.needed_by(config) | {"reference_logprobs": made.reference, "entropy": -made.behaviour}
    if proximal:
        extras["proximal_logprobs"] = made.behaviour - 0.5 * made.z
    inputs = LossInputs(leaf, made.behaviour, made.advantages, made.mask, **extras)
    outputs = policy_loss(inputs, config, HARD if proximal else CorrectionConfig())
    outputs.loss.backward()
    figures = RatioDiagnostics(outputs.metrics).figures()
    assert torch.isfinite(outputs.loss) and leaf.grad is not None and torch.isfinite(leaf.grad).all()
    assert all(math.isfinite(value) for value in figures.values()), figures
    return leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("proximal", [False, True])
@EVERY
def test_log_ratios_up_to_10_to_the_4(name: str, proximal: bool, dtype: torch.dtype) -> None:
    made = batch(seed=60, sequences=6, dtype=dtype)
    config = OBJECTIVES[name](kl_coefficient=0.1)
    for size in (25.0, 300.0, 1e4):
        for z in (size * torch.sign(made.z), torch.full_like(made.z, size), torch.full_like(made.z, -size)):
            check(Batch(z, made.behaviour, made.mask, made.advantages), config, proximal=proximal)


@EVERY
def test_large_advantages(name: str) -> None:
    made = batch(seed=61, sequences=6, dtype=torch.float32)
    for factor in (1e-6, 1e3, 1e6):
        check(Batch(made.z, made.behaviour, made.mask, factor * made.advantages), OBJECTIVES[name]())


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@EVERY
def test_log_probs_that_are_not_finite(name: str, value: float) -> None:
    """In the policy: masked, with no gradient there; a row of nothing else counts as empty."""
    made = batch(seed=62, sequences=6, dtype=torch.float32)
    policy = made.behaviour + made.z
    policy[0] = value
    policy[1, ::2] = value
    grad = check(made, OBJECTIVES[name](kl_coefficient=0.1), policy=policy)
    assert torch.all(grad[~torch.isfinite(policy)] == 0)


@pytest.mark.parametrize("tokens", [1, 2, 32_768])
@EVERY
def test_lengths(name: str, tokens: int) -> None:
    """One token, and 32k of them, on-policy, drifting and random."""
    generator = torch.Generator().manual_seed(63)
    noise = torch.randn(3, tokens, generator=generator)
    behaviour = -torch.rand(3, tokens, generator=generator)
    mask = torch.ones(3, tokens, dtype=torch.bool)
    mask[2] = False
    for z in (torch.zeros_like(noise), torch.full_like(noise, 0.05), 0.5 * noise):
        check(Batch(z, behaviour, mask, torch.tensor([1.0, -2.0, 0.5])), OBJECTIVES[name]())


@pytest.mark.parametrize(("dtype", "largest"), [(torch.bfloat16, 30.0), (torch.float16, 3.0)])
@EVERY
def test_half_precision_inputs(name: str, dtype: torch.dtype, largest: float) -> None:
    """float16 can't hold the gradient of a ratio of e^20; bfloat16 can."""
    made = batch(seed=64, sequences=6, dtype=torch.float32)
    for size in (0.3, largest):
        halves = Batch((size * made.z).to(dtype), made.behaviour.to(dtype), made.mask, made.advantages.to(dtype))
        assert check(halves, OBJECTIVES[name]()).dtype == dtype


@EVERY
def test_nothing_unmasked(name: str) -> None:
    made = batch(seed=65, dtype=torch.float32)
    nothing = Batch(made.z, made.behaviour, torch.zeros_like(made.mask), made.advantages)
    assert torch.all(check(nothing, OBJECTIVES[name](kl_coefficient=0.1)) == 0)

"""Every objective against its plain-Python oracle: values, gradients and gradient weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sspo_core.config import OBJECTIVES
from sspo_core.losses import policy_loss
from sspo_core.types import LossInputs
from tests.unit.sspo_core import oracle
from tests.unit.sspo_core.batches import MODEST, Batch, batch, evaluate, unmasked, weights
from tests.unit.sspo_core.oracle_objectives import FIELDS, LOSSES, WEIGHTS, Case

EXACT = 1e-9
IDS = [f"{name}-{'-'.join(map(str, fields.values()))}".rstrip("-") for name, fields in FIELDS]
EVERY = pytest.mark.parametrize(("name", "fields"), FIELDS, ids=IDS)
PRODUCTS = ("vespo", "lad", "flowrl")


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def differentiable(name: str, fields: dict[str, Any]) -> bool:
    """Whether the oracle is smooth over the step of a numerical derivative: not within GSPO's own narrow clip, and not
    for a power mean so near the geometric one that its plain formula has too few digits."""
    return not (name in ("gspo", "gspo_token") and not fields) and fields.get("exponent") != 1e-6


@pytest.mark.parametrize(("name", "fields"), [pair for pair in FIELDS if differentiable(*pair)], ids=str)
@pytest.mark.parametrize("spread", [0.05, 0.3, 0.8])
def test_value_and_gradient_are_the_oracles(name: str, fields: dict[str, Any], spread: float) -> None:
    """Both signs of A, holes in the mask, a sequence without a token."""
    config = OBJECTIVES[name](**fields)
    made = batch(seed=36, sequences=7, spread=spread)  # nothing lies within a step of a bound
    policy, case = Case.of(made)
    loss, grad = evaluate(made, config)
    assert float(loss) == pytest.approx(LOSSES[name](policy, policy, case, config), abs=EXACT, rel=EXACT)
    expected = oracle.gradient(lambda rows: LOSSES[name](rows, policy, case, config), policy)
    assert flat(unmasked(grad, made.mask)) == pytest.approx(flat(expected), abs=EXACT, rel=EXACT)
    assert torch.all(grad[~made.mask] == 0)


@EVERY
def test_gradient_weight_is_the_closed_form(name: str, fields: dict[str, Any]) -> None:
    config = OBJECTIVES[name](**fields)
    made = batch(seed=32, sequences=7)
    loss, grad = evaluate(made, config)
    policy, case = Case.of(made)
    assert float(loss) == pytest.approx(LOSSES[name](policy, policy, case, config), abs=EXACT, rel=EXACT)
    expected = flat(WEIGHTS[name](policy, case, config))
    got = flat(unmasked(weights(made, grad, config), made.mask))
    assert got == pytest.approx(expected, abs=EXACT, rel=EXACT)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_does_something_of_its_own(name: str) -> None:
    """Off-policy no two objectives with other parts have the same gradient."""
    made = batch(seed=33, sequences=9)
    twins = {"gspo": "gspo_token", "reinforce": "rloo", "ppo": "reinforce_pp"}
    _, mine = evaluate(made, OBJECTIVES[name]())
    for other in OBJECTIVES:
        _, theirs = evaluate(made, OBJECTIVES[other]())
        pair = {twins.get(name, name), twins.get(other, other)}
        if len(pair) == 1:
            torch.testing.assert_close(mine, theirs)
        else:
            assert (mine - theirs).abs().max() > 1e-4, other


def long_batch(name: str, *, tokens: int = 512, seed: int = 40) -> Batch:
    """float32, |z| up to 5 but for product ratios, whose log W stays within the clamp."""
    generator = torch.Generator().manual_seed(seed)
    shape = (4, tokens)
    z = 10.0 * torch.rand(shape, generator=generator) - 5.0
    if name in PRODUCTS:
        z = 3.0 * torch.randn(shape, generator=generator) / tokens**0.5
    behaviour = -6.0 * torch.rand(shape, generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.9
    return Batch(z, behaviour, mask, torch.tensor([1.3, -0.7, 0.6, -1.8]))


@EVERY
def test_float32_keeps_to_the_oracle(name: str, fields: dict[str, Any]) -> None:
    """T = 512, |z| ≤ 5: within 1e-5 relative to max(1, |x|), 1e-4 for product ratios. The oracle sees the float32
    inputs; tokens so near a bound that float32 may put them on its other side are left to the test below."""
    config = OBJECTIVES[name](**fields)
    made = long_batch(name)
    policy_BT = (made.behaviour + made.z).requires_grad_()
    inputs = LossInputs(policy_BT, made.behaviour, made.advantages, made.mask, **made.needed_by(config))
    loss = policy_loss(inputs, config).loss
    loss.backward()
    assert loss.dtype == torch.float32 and policy_BT.grad is not None
    exact = Batch(
        policy_BT.detach().double() - made.behaviour.double(), made.behaviour.double(), made.mask, made.advantages
    )
    policy, case = Case.of(exact)
    case = Case(
        case.behaviour,
        case.advantages,
        case.turns,
        unmasked(made.reference.double(), made.mask),
        made.log_partition.double().tolist(),
    )
    tolerance = 1e-4 if name in PRODUCTS else 1e-5
    assert near(float(loss.detach()), LOSSES[name](policy, policy, case, config), tolerance)
    k = flat(unmasked(weights(made, policy_BT.grad.double(), config), made.mask))
    for got, expected in zip(k, flat(WEIGHTS[name](policy, case, config)), strict=True):
        assert near(got, expected, tolerance)


def near(got: float, expected: float, tolerance: float) -> bool:
    return abs(got - expected) <= tolerance * max(1.0, abs(expected))


CLIPPED: list[tuple[str, dict[str, Any], float, float]] = [
    # objective, fields, a bound on log r, the sign of A for which it cuts off what lies beyond it
    ("grpo", {}, math.log(1.2), 1.0),
    ("grpo", {}, math.log(0.8), -1.0),
    ("dapo", {}, math.log(1.28), 1.0),
    ("ppo", {"dual_clip": 3.0}, math.log(3.0), -1.0),
    ("ppo", {"clip_sides": "two"}, math.log(0.8), 1.0),
    ("ppo", {"clip_sides": "two"}, math.log(1.2), -1.0),
    ("reinforce_pp", {}, math.log(1.2), 1.0),
    ("dr_grpo", {}, math.log(0.8), -1.0),
    ("gspo", {}, math.log(1 + 4e-4), 1.0),
    ("gspo", {}, math.log(1 - 3e-4), -1.0),
    ("gspo_token", {}, math.log(1 + 4e-4), 1.0),
    ("sorl", {}, math.log(1.2), 1.0),
    ("gmpo", {}, 0.4, 1.0),
    ("gmpo", {}, -0.4, -1.0),
    ("power_mean", {}, math.log(1.2), 1.0),
    ("power_mean", {}, math.log(0.8), -1.0),
    ("sspo", {"gate": "clip"}, 0.4, 1.0),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "fields", "bound", "sign"), CLIPPED)
def test_both_sides_of_a_clip(name: str, fields: dict[str, Any], bound: float, sign: float, dtype: torch.dtype) -> None:
    """The gradient is whole just inside a bound and none just outside of it; the value has no jump."""
    config = OBJECTIVES[name](**fields)
    gap = 1e-5
    outwards = 1.0 if bound > 0 else -1.0
    outcomes = []
    for z in (bound - outwards * gap, bound + outwards * gap):
        made = Batch(
            torch.full((1, 3), z, dtype=dtype),
            torch.zeros(1, 3, dtype=dtype),
            torch.ones(1, 3, dtype=torch.bool),
            torch.tensor([sign], dtype=dtype),
        )
        loss, grad = evaluate(made, config)
        outcomes.append((float(loss), weights(made, grad, config) * sign))
    (inside, k_inside), (outside, k_outside) = outcomes
    torch.testing.assert_close(k_inside, torch.full_like(k_inside, math.exp(bound)), rtol=1e-4, atol=0)
    assert torch.all(k_outside == 0)
    assert abs(inside - outside) <= 20 * gap


@pytest.mark.parametrize("name", ["cispo"])
def test_a_detached_clip_keeps_the_gradient(name: str) -> None:
    config = OBJECTIVES[name](clip_low=0.3, clip_high=0.2)
    z = torch.tensor([[1.0, -1.0, 0.1]], dtype=torch.float64)
    made = Batch(z, torch.zeros_like(z), torch.ones_like(z, dtype=torch.bool), torch.ones(1, dtype=torch.float64))
    _, grad = evaluate(made, config)
    assert weights(made, grad, config)[0].tolist() == pytest.approx([1.2, 0.7, math.exp(0.1)])


def log_partition_gradient(made: Batch, config: Any, log_z: Tensor) -> Tensor:
    inputs = LossInputs(
        made.behaviour + made.z,
        made.behaviour,
        made.advantages,
        made.mask,
        reference_logprobs=made.reference,
        log_partition=log_z,
    )
    (grad,) = torch.autograd.grad(policy_loss(inputs, config).loss, log_z)
    return grad


@MODEST
@given(seed=st.integers(0, 2**20), beta=st.floats(0.0, 20.0))
def test_log_partition_is_trained_towards_balance(seed: int, beta: float) -> None:
    """∂L/∂log Z = 2·w·δ/B, and 0 for a sequence without a token, whatever its log Z is."""
    config = OBJECTIVES["flowrl"](beta=beta)
    made = batch(seed)
    log_z = torch.where(made.mask.any(1), made.log_partition, torch.nan).requires_grad_()
    policy, case = Case.of(made)
    expected = [-row[0] if row else 0.0 for row in WEIGHTS["flowrl"](policy, case, config)]
    grad = log_partition_gradient(made, config, log_z) * made.mask.any(1).sum()
    assert grad.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("flowrl", "reference_logprobs"), ("flowrl", "log_partition"), ("sorl", "turn_ids")],
)
def test_missing_inputs_are_named(name: str, missing: str) -> None:
    made = batch(seed=34)
    config = OBJECTIVES[name]()
    with pytest.raises(ValueError, match=f"^{missing}:"):
        evaluate(made, config, **{missing: None})

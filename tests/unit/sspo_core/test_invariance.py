"""What must not change a loss: order, padding, masked garbage, how a batch is split, precision of the input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sspo_core.config import (
    GATES_OFF_ONE,
    OBJECTIVES,
    GateName,
    GMPOConfig,
    GRPOConfig,
    GSPOConfig,
    GSPOTokenConfig,
    LADConfig,
    PowerMeanConfig,
    SAPOConfig,
    SSPOConfig,
)
from sspo_core.losses import policy_loss
from sspo_core.objectives.ratios import log_ratios
from sspo_core.types import Denominators, LossInputs, LossOutputs
from tests.unit.sspo_core.batches import MODEST, Batch, batch, evaluate

GATES = get_args(GateName)
SEEDS = st.integers(0, 2**20)
CONFIGS = [
    *(SSPOConfig(gate=gate) for gate in GATES),
    *(SSPOConfig(gate=gate, sides="outward") for gate in GATES if gate not in GATES_OFF_ONE),
    SAPOConfig(),
    GRPOConfig(),
    GRPOConfig(aggregation="token-mean"),
    GMPOConfig(),
    GSPOConfig(clip_low=0.2, clip_high=0.2),
    GSPOTokenConfig(clip_low=0.2, clip_high=0.2),
    PowerMeanConfig(exponent=3.0),
    PowerMeanConfig(exponent=-1.0, gate="softsign"),
    LADConfig(ratio="token"),
    *(OBJECTIVES[name]() for name in OBJECTIVES if name not in ("sspo", "sapo", "grpo", "gmpo", "gspo", "gspo_token")),
]
SOME = st.sampled_from(CONFIGS)
GARBAGE = [float("nan"), float("inf"), float("-inf"), 1e4, -1e4, 0.0]


@MODEST
@given(seed=SEEDS, config=SOME, shuffle=SEEDS)
def test_order_of_tokens_and_sequences(seed: int, config: Any, shuffle: int) -> None:
    made = batch(seed)
    generator = torch.Generator().manual_seed(shuffle)
    rows, columns = (torch.randperm(size, generator=generator) for size in made.z.shape)
    moved = Batch(
        made.z[rows][:, columns], made.behaviour[rows][:, columns], made.mask[rows][:, columns], made.advantages[rows]
    )
    loss, grad = evaluate(made, config)
    moved_loss, moved_grad = evaluate(moved, config)
    torch.testing.assert_close(moved_loss, loss, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(moved_grad, grad[rows][:, columns], rtol=1e-11, atol=1e-12)


@MODEST
@given(seed=SEEDS, config=SOME, left=st.integers(0, 4), right=st.integers(0, 4), empty=st.integers(0, 2))
def test_padding_and_empty_sequences(seed: int, config: Any, left: int, right: int, empty: int) -> None:
    made = batch(seed)

    def pad(x: torch.Tensor, value: float) -> torch.Tensor:
        return torch.nn.functional.pad(x, (left, right, 0, empty), value=value)

    padded = Batch(
        pad(made.z, float("nan")),
        pad(made.behaviour, float("-inf")),
        pad(made.mask.double(), 0.0).bool(),
        torch.cat([made.advantages, torch.full((empty,), float("nan"), dtype=torch.float64)]),
    )
    loss, grad = evaluate(made, config)
    padded_loss, padded_grad = evaluate(padded, config)
    torch.testing.assert_close(padded_loss, loss, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(padded_grad, pad(grad, 0.0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_nothing_leaks_from_masked_positions(config: Any) -> None:
    """Neither into the loss nor into a gradient, from any input, with the penalty and the correction on."""
    made = batch(seed=1)
    config = replace(config, kl_coefficient=0.1)

    def outcome(fill: float) -> tuple[torch.Tensor, torch.Tensor]:
        def filled(x: torch.Tensor) -> torch.Tensor:
            return torch.where(made.mask, x, fill)

        policy = filled(made.behaviour + made.z).requires_grad_()
        inputs = LossInputs(
            policy_logprobs=policy,
            behaviour_logprobs=filled(made.behaviour),
            advantages=filled(made.advantages[:, None].expand_as(made.z)),
            mask=made.mask,
            turn_ids=torch.where(made.mask, made.turn_ids, -7 if math.isnan(fill) else 10**6),
            proximal_logprobs=filled(made.behaviour + 0.1),
            reference_logprobs=filled(made.behaviour - 0.1),
            log_partition=torch.where(made.mask.any(1), made.log_partition, fill),
            entropy=filled(-made.behaviour),
        )
        loss = policy_loss(inputs, config).loss
        loss.backward()
        assert policy.grad is not None
        return loss.detach(), policy.grad

    loss, grad = outcome(-1.0)
    assert torch.isfinite(loss) and torch.all(grad[~made.mask] == 0)
    for garbage in GARBAGE:
        other_loss, other_grad = outcome(garbage)
        assert torch.equal(other_loss, loss) and torch.equal(other_grad, grad), garbage


@pytest.mark.parametrize("garbage", GARBAGE)
def test_log_ratios_are_zero_outside_the_mask(garbage: float) -> None:
    """What every objective builds on: finite and bounded everywhere, 0 outside the mask."""
    made = batch(seed=1, spread=30.0)
    policy, other = (torch.where(made.mask, x, garbage) for x in (made.behaviour + made.z, made.behaviour))
    ratios = log_ratios(
        LossInputs(policy, other, made.advantages, made.mask, proximal_logprobs=other, reference_logprobs=other)
    )
    for tensor in (ratios.policy, ratios.drift, ratios.correction, ratios.reference):
        assert tensor is not None and torch.isfinite(tensor).all() and torch.all(tensor[~made.mask] == 0)
    assert ratios.policy.abs().max() == 20.0 and ratios.drift.abs().max() > 20.0


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_non_finite_log_probs_are_masked_out_and_counted(config: Any) -> None:
    made = batch(seed=2)
    chosen = made.mask.nonzero()[[0, 4, -1]]
    hole = made.mask.clone()
    hole[tuple(chosen.T)] = False
    policy, behaviour = made.behaviour + made.z, made.behaviour.clone()
    policy[tuple(chosen[0])] = float("nan")
    policy[tuple(chosen[1])] = behaviour[tuple(chosen[1])] = float("-inf")
    behaviour[tuple(chosen[2])] = float("inf")
    policy.requires_grad_()
    extras = made.needed_by(config)
    outputs = policy_loss(LossInputs(policy, behaviour, made.advantages, made.mask, **extras), config)
    outputs.loss.backward()
    expected, expected_grad = evaluate(Batch(made.z, made.behaviour, hole, made.advantages), config)
    torch.testing.assert_close(outputs.loss.detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(policy.grad, expected_grad, rtol=1e-12, atol=1e-12)
    assert outputs.metrics["nonfinite_tokens"] == 3


@MODEST
@given(seed=SEEDS, config=SOME, cut=st.integers(1, 8))
def test_micro_batches_add_up(seed: int, config: Any, cut: int) -> None:
    """With the batch's denominators: the sums of the losses and the gradients are the single batch's."""
    made = batch(seed, sequences=9)
    denominators = Denominators.of(made.mask)
    assert denominators == Denominators(tokens=int(made.mask.sum()), sequences=8)
    loss, grad = evaluate(made, config)
    parts = [evaluate(part, config, denominators=denominators) for part in made.cut_at(cut)]
    torch.testing.assert_close(parts[0][0] + parts[1][0], loss, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch.cat([parts[0][1], parts[1][1]]), grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_buckets_count_their_sequences_and_add_up(config: Any) -> None:
    made, ids = batch(seed=11), [3, 0, 3, 1, 0]

    def outputs(rows: list[int], buckets: list[int] | None = None) -> LossOutputs:
        part = Batch(made.z[rows], made.behaviour[rows], made.mask[rows], made.advantages[rows])
        entropy = part.behaviour.square()
        policy = part.behaviour + part.z
        more = part.needed_by(config) | {"entropy": entropy, "buckets": buckets}
        return policy_loss(LossInputs(policy, part.behaviour, part.advantages, part.mask, **more), config)

    everyone = list(range(5))
    found, whole = outputs(everyone, ids), outputs(everyone)
    assert torch.equal(found.loss, whole.loss) and not whole.buckets
    assert list(found.buckets) == [0, 1, 3]
    assert_same(found.metrics, whole.metrics)
    for bucket, metrics in found.buckets.items():
        assert_same(metrics, outputs([row for row in everyone if ids[row] == bucket]).metrics)


def assert_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
@pytest.mark.parametrize("denominators", [None, Denominators(0, 0), Denominators(10, 3)])
def test_nothing_unmasked_is_a_loss_of_zero(config: Any, denominators: Denominators | None) -> None:
    made = batch(seed=3)
    nothing = Batch(made.z, made.behaviour, torch.zeros_like(made.mask), made.advantages)
    loss, grad = evaluate(nothing, config, denominators=denominators)
    assert loss == 0 and torch.all(grad == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_extreme_log_ratios_stay_finite(config: Any, dtype: torch.dtype) -> None:
    made = batch(seed=4, dtype=dtype)
    for extreme in (50.0, -50.0, 1e4, -1e4):
        z = made.z.clone()
        z[:, ::2] = extreme
        for everywhere in (z, torch.full_like(z, extreme)):
            loss, grad = evaluate(Batch(everywhere, made.behaviour, made.mask, made.advantages), config)
            assert torch.isfinite(loss) and torch.isfinite(grad).all(), extreme


def test_the_clamp_does_not_hide_the_divergence() -> None:
    made = batch(seed=5)
    z = made.z.clone()
    z[0, 0] = 37.5
    outputs = policy_loss(LossInputs(made.behaviour + z, made.behaviour, made.advantages, made.mask), SSPOConfig())
    assert outputs.metrics["log_ratio_abs_max"] == pytest.approx(37.5)
    assert outputs.metrics["clamped_tokens"] == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_half_precision_is_raised_before_the_subtraction(config: Any, dtype: torch.dtype) -> None:
    made = batch(seed=6)
    policy, behaviour = (made.behaviour + made.z).to(dtype), made.behaviour.to(dtype)
    exact = Batch(policy.double() - behaviour.double(), behaviour.double(), made.mask, made.advantages)
    loss, grad = evaluate(exact, config)
    leaf = policy.clone().requires_grad_()
    extras = {name: x.float() if x.is_floating_point() else x for name, x in exact.needed_by(config).items()}
    outputs = policy_loss(LossInputs(leaf, behaviour, made.advantages.float(), made.mask, **extras), config)
    outputs.loss.backward()
    assert outputs.loss.dtype == torch.float32 and leaf.grad is not None and leaf.grad.dtype == dtype
    torch.testing.assert_close(outputs.loss.detach().double(), loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(leaf.grad.double(), grad, rtol=1e-2, atol=1e-3)


def test_float32_and_float64_keep_their_precision() -> None:
    for dtype in (torch.float32, torch.float64):
        made = batch(seed=7, dtype=dtype)
        loss, grad = evaluate(made, SSPOConfig())
        assert loss.dtype == grad.dtype == dtype


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_nothing_waits_for_the_device(name: str) -> None:
    """Meta tensors have no values: reading one would raise."""
    shape = (3, 5)
    policy = torch.zeros(shape, device="meta", requires_grad=True)
    floats = torch.zeros(shape, device="meta")
    inputs = LossInputs(
        policy,
        floats,
        floats[:, 0],
        floats.bool(),
        turn_ids=floats.long(),
        proximal_logprobs=floats,
        reference_logprobs=floats,
        log_partition=floats[:, 0],
        entropy=floats,
        buckets=[row % 2 for row in range(len(floats))],
    )
    outputs = policy_loss(inputs, OBJECTIVES[name](kl_coefficient=0.1))
    outputs.loss.backward()
    assert outputs.loss.shape == () and policy.grad is not None
    assert not any(value.requires_grad for value in outputs.metrics.values())


def test_only_the_policy_receives_a_gradient() -> None:
    made = batch(seed=8)
    leaves = {
        name: tensor.clone().requires_grad_()
        for name, tensor in {
            "policy_logprobs": made.behaviour + made.z,
            "behaviour_logprobs": made.behaviour,
            "advantages": made.advantages,
            "proximal_logprobs": made.behaviour + 0.1,
            "reference_logprobs": made.behaviour - 0.1,
        }.items()
    }
    policy_loss(LossInputs(mask=made.mask, **leaves), SSPOConfig(kl_coefficient=0.1)).loss.backward()
    assert [name for name, leaf in leaves.items() if leaf.grad is not None] == ["policy_logprobs"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy_logprobs", torch.zeros(3)),
        ("policy_logprobs", torch.zeros(0, 4)),
        ("behaviour_logprobs", torch.zeros(3, 5)),
        ("mask", torch.ones(4, 3)),
        ("advantages", torch.zeros(4)),
        ("advantages", torch.zeros(3, 1)),
        ("turn_ids", torch.zeros(3, 5)),
        ("proximal_logprobs", torch.zeros(2, 4)),
        ("reference_logprobs", torch.zeros(3, 4, dtype=torch.int64)),
    ],
)
def test_inputs_that_do_not_fit_are_named(field: str, value: torch.Tensor) -> None:
    fields: dict[str, Any] = {
        "policy_logprobs": torch.zeros(3, 4),
        "behaviour_logprobs": torch.zeros(3, 4),
        "advantages": torch.zeros(3),
        "mask": torch.ones(3, 4),
    }
    with pytest.raises(ValueError, match=f"^{field}:"):
        LossInputs(**(fields | {field: value}))


def test_an_unknown_config_is_refused() -> None:
    made = batch(seed=9)
    with pytest.raises(TypeError, match="config"):
        evaluate(made, object())


@pytest.mark.parametrize(("field", "value"), [("tokens", -1), ("sequences", float("nan"))])
def test_denominators_are_counts(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        Denominators(**({"tokens": 1, "sequences": 1} | {field: value}))

"""What holds for any batch: the family's identities with drawn batches, objectives and gates."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sspo_core.advantages import group_advantages
from sspo_core.config import (
    GATES_OFF_ONE,
    OBJECTIVES,
    GateName,
    GMPOConfig,
    GRPOConfig,
    GSPOConfig,
    SAPOConfig,
    SSPOConfig,
)
from tests.unit.sspo_core.batches import MODEST, Batch, batch, evaluate, unmasked, weights
from tests.unit.sspo_core.oracle_objectives import FIELDS, LOSSES, WEIGHTS, Case

SEEDS = st.integers(0, 2**20)
SPREADS = st.sampled_from([0.05, 0.3, 0.8])
VARIANTS = st.sampled_from(FIELDS)
GATES = st.sampled_from(get_args(GateName))
THROUGH_ONE = st.sampled_from(sorted(set(get_args(GateName)) - GATES_OFF_ONE))
OPEN = {"clip_low": 1 - 1e-12, "clip_high": 1e6}


def same(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def soft(kind: Any, gate: str, **more: Any) -> Any:
    return kind(gate=gate, **({"tau_pos": 3.0, "tau_neg": 3.5, "alpha": 5.0, "centre": 0.8} | more))


@MODEST
@given(seed=SEEDS, spread=SPREADS, variant=VARIANTS)
def test_value_and_weights_are_the_closed_forms(seed: int, spread: float, variant: tuple[str, dict[str, Any]]) -> None:
    name, fields = variant
    config = OBJECTIVES[name](**fields)
    made = batch(seed, sequences=6, spread=spread)
    loss, grad = evaluate(made, config)
    policy, case = Case.of(made)
    assert float(loss) == pytest.approx(LOSSES[name](policy, policy, case, config), rel=1e-8, abs=1e-8)
    expected = [k for row in WEIGHTS[name](policy, case, config) for k in row]
    got = [k for row in unmasked(weights(made, grad, config), made.mask) for k in row]
    assert got == pytest.approx(expected, rel=1e-8, abs=1e-8)


@MODEST
@given(seed=SEEDS, variant=st.sampled_from([pair for pair in FIELDS if pair[0] not in ("lad", "flowrl")]))
def test_on_policy_the_weight_is_the_advantage(seed: int, variant: tuple[str, dict[str, Any]]) -> None:
    made = batch(seed, spread=0.0)
    config = OBJECTIVES[variant[0]](**variant[1])
    _, grad = evaluate(made, config)
    expected = torch.where(made.mask, made.advantages[:, None], 0.0)
    torch.testing.assert_close(weights(made, grad, config), expected, rtol=1e-11, atol=1e-12)


@MODEST
@given(seed=SEEDS, spread=SPREADS, gate=GATES)
def test_sspo_is_sapo_for_one_token_and_for_equal_ratios(seed: int, spread: float, gate: GateName) -> None:
    """Exactly for T = 1; for equal ratios in a sequence the gradient is the same."""
    single = batch(seed, sequences=12, tokens=1, spread=spread)
    same(evaluate(single, soft(SSPOConfig, gate)), evaluate(single, soft(SAPOConfig, gate)))
    made = batch(seed, spread=spread)
    made = Batch(made.z[:, :1].expand_as(made.z), made.behaviour, made.mask, made.advantages)
    _, sspo = evaluate(made, soft(SSPOConfig, gate))
    _, sapo = evaluate(made, soft(SAPOConfig, gate))
    torch.testing.assert_close(sspo, sapo, rtol=1e-10, atol=1e-12)


@MODEST
@given(seed=SEEDS, spread=SPREADS, c=st.floats(0.05, 1.0))
def test_sspo_with_a_gate_of_its_neighbours(seed: int, spread: float, c: float) -> None:
    """The identity gate is GSPO and GMPO without their clips, the clip gate GMPO, and one-token GSPO is GRPO."""
    made = batch(seed, spread=spread)
    plain = evaluate(made, SSPOConfig(gate="identity"))
    same(plain, evaluate(made, GSPOConfig(**OPEN)))
    same(plain, evaluate(made, GMPOConfig(clip_log_low=20.0, clip_log_high=20.0)))
    clip = evaluate(made, SSPOConfig(gate="clip", clip_log=c))
    same(clip, evaluate(made, GMPOConfig(clip_log_low=c, clip_log_high=c)))


@MODEST
@given(seed=SEEDS, gate=st.sampled_from(["sigmoid_norm", "erf", "arctan", "softsign", "logarctan_a"]))
def test_limits_of_the_temperature(seed: int, gate: GateName) -> None:
    """τ → 0: a gate through (1, 1) is unclipped GSPO, the raw sigmoid has the gradient of unclipped GRPO. τ → ∞: it
    freezes or collapses."""
    made = batch(seed)
    same(evaluate(made, SSPOConfig(gate=gate, tau_pos=1e-5, tau_neg=1e-5)), evaluate(made, GSPOConfig(**OPEN)), 1e-6)
    _, raw = evaluate(made, SSPOConfig(gate="sigmoid_raw", tau_pos=1e-6, tau_neg=1e-6))
    torch.testing.assert_close(raw, evaluate(made, GRPOConfig(**OPEN))[1], rtol=1e-4, atol=1e-6)
    far = Batch(made.z + 0.05 * made.z.sign(), made.behaviour, made.mask, made.advantages)
    for name in (gate, "sigmoid_raw"):
        _, frozen = evaluate(far, SSPOConfig(gate=name, tau_pos=1e4, tau_neg=1e4))
        assert frozen.abs().max() < 1e-5


@MODEST
@given(seed=SEEDS, variant=VARIANTS)
def test_one_advantage_per_sequence_or_the_same_for_each_token(seed: int, variant: tuple[str, dict[str, Any]]) -> None:
    """The two forms of the loss have one gradient."""
    made = batch(seed)
    config = OBJECTIVES[variant[0]](**variant[1])
    _, grad = evaluate(made, config)
    _, per_token = evaluate(made, config, advantages=made.advantages[:, None].expand_as(made.z))
    torch.testing.assert_close(per_token, grad, rtol=1e-10, atol=1e-12)


@MODEST
@given(seed=SEEDS, spread=SPREADS)
def test_clips_are_one_sided_and_whole(seed: int, spread: float) -> None:
    """GMPO leaves A > 0, z < −c alone, and GSPO clips all tokens of a sequence or none; GSPO-token is GSPO."""
    made = batch(seed, sequences=9, spread=spread)
    _, gmpo = evaluate(made, GMPOConfig(clip_log_low=0.1, clip_log_high=0.1))
    inward = made.mask & (made.advantages[:, None] * made.z < 0)
    assert torch.all(gmpo[inward] != 0)
    clip = {"clip_low": 0.05, "clip_high": 0.05}
    loss, grad = evaluate(made, GSPOConfig(**clip))
    kept = (grad != 0).sum(1)
    assert torch.all((kept == 0) | (kept == made.mask.sum(1)))
    same((loss, grad), evaluate(made, OBJECTIVES["gspo_token"](**clip)))


@MODEST
@given(seed=SEEDS, size=st.integers(2, 9), rewards=st.data())
def test_aggregations_and_baselines_meet(seed: int, size: int, rewards: st.DataObject) -> None:
    """token-mean is the mean of means exactly at equal lengths; Dr. GRPO·G/(G − 1) is RLOO on-policy."""
    made = batch(seed, sequences=size, spread=0.3)
    everything = Batch(made.z, made.behaviour, torch.ones_like(made.mask), made.advantages)
    same(evaluate(everything, GRPOConfig(aggregation="token-mean")), evaluate(everything, GRPOConfig()))
    on_policy = Batch(torch.zeros_like(made.z), made.behaviour, made.mask, made.advantages)
    drawn = rewards.draw(st.lists(st.floats(-5, 5), min_size=size, max_size=size))
    group = torch.tensor([drawn], dtype=torch.float64)
    centred, others = (group_advantages(group, kind)[0] for kind in ("group_mean", "leave_one_out"))
    _, dr_grpo = evaluate(on_policy, OBJECTIVES["dr_grpo"](norm_tokens=1), advantages=centred)
    _, rloo = evaluate(on_policy, OBJECTIVES["rloo"](), advantages=others)
    torch.testing.assert_close(dr_grpo * size / (size - 1), rloo, rtol=1e-9, atol=1e-12)


@MODEST
@given(seed=SEEDS, spread=st.floats(0.01, 8.0), tau=st.floats(0.1, 30.0), gate=THROUGH_ONE, outward=st.booleans())
def test_bounds_of_gated_sequences(seed: int, spread: float, tau: float, gate: GateName, outward: bool) -> None:
    """S ≤ mean f (AM-GM), so |J| of SSPO never exceeds that of SAPO with the same gate; for logarctan_a k/A is at
    most e^(π/2τ), and with the raw sigmoid S stays under 4/τ."""
    made = batch(seed, spread=spread)
    sides = "outward" if outward else "both"
    tau = max(tau, math.pi / 2 + 1e-3) if gate == "logarctan_b" else tau
    fields = {"gate": gate, "sides": sides, "tau_pos": tau, "tau_neg": tau}
    for row in range(len(made.z)):
        one = Batch(*(x[row : row + 1] for x in (made.z, made.behaviour, made.mask, made.advantages)))
        sspo, sapo = (abs(float(evaluate(one, kind(**fields))[0])) for kind in (SSPOConfig, SAPOConfig))
        assert sspo <= sapo * (1 + 1e-9) + 1e-12
        raw, _ = evaluate(one, SSPOConfig(gate="sigmoid_raw", tau_pos=tau, tau_neg=tau))
        assert abs(float(raw)) <= 4 / tau * abs(float(one.advantages)) * (1 + 1e-9)
    _, grad = evaluate(made, SSPOConfig(tau_pos=tau, tau_neg=tau))
    bound = math.exp(math.pi / (2 * tau)) * made.advantages.abs()[:, None]
    assert torch.all(weights(made, grad).abs() <= bound * (1 + 1e-9) + 1e-12)

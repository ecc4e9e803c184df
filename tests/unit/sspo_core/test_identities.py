"""Identities between objectives, and their limits."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sspo_core.config import (
    GATES_OFF_ONE,
    GateName,
    GMPOConfig,
    GRPOConfig,
    GSPOConfig,
    SAPOConfig,
    SSPOConfig,
)
from tests.unit.sspo_core.batches import MODEST, Batch, batch, evaluate, weights

GATES = get_args(GateName)
SEEDS = st.integers(0, 2**20)
UNCLIPPED_GSPO = GSPOConfig(clip_low=1 - 1e-12, clip_high=1e6)
UNCLIPPED_GMPO = GMPOConfig(clip_log_low=20.0, clip_log_high=20.0)
UNCLIPPED_GRPO = GRPOConfig(clip_low=1 - 1e-12, clip_high=1e6)


def gated(kind: Any, gate: GateName, **more: Any) -> Any:
    return kind(gate=gate, **({"tau_pos": 3.0, "tau_neg": 3.5, "alpha": 5.0, "centre": 0.8} | more))


def same(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


ALL_CONFIGS = [
    *(gated(SSPOConfig, gate) for gate in GATES),
    *(gated(SSPOConfig, gate, sides="outward") for gate in GATES if gate not in GATES_OFF_ONE),
    *(gated(SAPOConfig, gate) for gate in GATES),
    GRPOConfig(),
    GMPOConfig(),
    GSPOConfig(),
]


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=repr)
def test_on_policy_every_weight_is_the_advantage(config: Any) -> None:
    made = batch(seed=1, spread=0.0)
    _, grad = evaluate(made, config)
    expected = torch.where(made.mask, made.advantages[:, None], 0.0)
    torch.testing.assert_close(weights(made, grad), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sides", ["both", "outward"])
@pytest.mark.parametrize("gate", GATES)
def test_one_token_sspo_is_sapo(gate: GateName, sides: str) -> None:
    sides = "both" if gate in GATES_OFF_ONE else sides
    made = batch(seed=2, sequences=40, tokens=1, spread=0.8)
    same(evaluate(made, gated(SSPOConfig, gate, sides=sides)), evaluate(made, gated(SAPOConfig, gate, sides=sides)))


@pytest.mark.parametrize("gate", GATES)
def test_equal_ratios_sspo_has_the_gradient_of_sapo(gate: GateName) -> None:
    made = batch(seed=3, sequences=9)
    made = Batch(made.z[:, :1].expand_as(made.z), made.behaviour, made.mask, made.advantages)
    same(evaluate(made, gated(SSPOConfig, gate)), evaluate(made, gated(SAPOConfig, gate)))


def test_identity_gate_is_gspo_and_gmpo_without_their_clips() -> None:
    made = batch(seed=4, sequences=9)
    sspo = evaluate(made, SSPOConfig(gate="identity"))
    same(sspo, evaluate(made, UNCLIPPED_GSPO))
    same(sspo, evaluate(made, UNCLIPPED_GMPO))
    same(sspo, evaluate(made, SSPOConfig(gate="identity", sides="outward")))


@pytest.mark.parametrize("c", [0.1, 0.4])
def test_clip_gate_is_gmpo(c: float) -> None:
    made = batch(seed=5, sequences=9)
    gmpo = evaluate(made, GMPOConfig(clip_log_low=c, clip_log_high=c))
    same(evaluate(made, SSPOConfig(gate="clip", clip_log=c)), gmpo)
    same(evaluate(made, SSPOConfig(gate="clip", clip_log=c, sides="outward")), gmpo)


def test_clip_of_gmpo_is_one_sided() -> None:
    """A > 0 with z far below −c keeps its gradient, as does A < 0 with z far above c."""
    z = torch.tensor([[-2.0, 2.0], [-2.0, 2.0]], dtype=torch.float64)
    made = Batch(z, torch.zeros_like(z), torch.ones_like(z, dtype=torch.bool), torch.tensor([1.0, -1.0]).double())
    _, grad = evaluate(made, GMPOConfig())
    assert [[g != 0 for g in row] for row in grad.tolist()] == [[True, False], [False, True]]


def test_one_token_gspo_is_grpo() -> None:
    made = batch(seed=6, sequences=40, tokens=1)
    same(
        evaluate(made, GSPOConfig(clip_low=0.2, clip_high=0.3)), evaluate(made, GRPOConfig(clip_low=0.2, clip_high=0.3))
    )


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=repr)
def test_a_constant_advantage_per_token_has_the_gradient_of_one_per_sequence(config: Any) -> None:
    made = batch(seed=7, sequences=9)
    _, grad = evaluate(made, config)
    _, per_token = evaluate(made, config, advantages=made.advantages[:, None].expand_as(made.z))
    torch.testing.assert_close(per_token, grad, rtol=1e-11, atol=1e-12)


def test_token_mean_is_the_sequence_mean_only_at_equal_lengths() -> None:
    made = batch(seed=8)
    everything = Batch(made.z, made.behaviour, torch.ones_like(made.mask), made.advantages)
    by_token, by_sequence = GRPOConfig(aggregation="token-mean"), GRPOConfig()
    same(evaluate(everything, by_token), evaluate(everything, by_sequence))
    assert abs(evaluate(made, by_token)[0] - evaluate(made, by_sequence)[0]) > 1e-3


@MODEST
@given(seed=SEEDS, gate=st.sampled_from(GATES), spread=st.floats(0.01, 1.5))
def test_geometric_mean_never_exceeds_the_arithmetic_one(seed: int, gate: GateName, spread: float) -> None:
    made = batch(seed, sequences=1, spread=spread)
    for sign in (1.0, -1.0):
        one = Batch(made.z, made.behaviour, made.mask, torch.tensor([sign], dtype=torch.float64))
        sspo, _ = evaluate(one, gated(SSPOConfig, gate))
        sapo, _ = evaluate(one, gated(SAPOConfig, gate))
        assert abs(sspo) <= abs(sapo) + 1e-12


@pytest.mark.parametrize("gate", ["sigmoid_norm", "erf", "arctan", "softsign", "logarctan_a"])
def test_small_tau_is_unclipped_gspo_for_gates_through_one(gate: GateName) -> None:
    made = batch(seed=9)
    same(evaluate(made, SSPOConfig(gate=gate, tau_pos=1e-5, tau_neg=1e-5)), evaluate(made, UNCLIPPED_GSPO), 1e-6)


def test_small_tau_is_unclipped_grpo_for_the_raw_sigmoid() -> None:
    """Its geometric mean of nearly constant gates is arithmetic: k → A·r. Only the gradient has the limit."""
    made = batch(seed=10)
    _, sspo = evaluate(made, SSPOConfig(gate="sigmoid_raw", tau_pos=1e-6, tau_neg=1e-6))
    _, grpo = evaluate(made, UNCLIPPED_GRPO)
    torch.testing.assert_close(sspo, grpo, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gate", ["sigmoid_norm", "erf", "arctan", "softsign", "logarctan_a", "logarctan_b"])
def test_large_tau_freezes_the_update(gate: GateName) -> None:
    """f → 1, so S → 1 and h → 0 off-policy: not GSPO."""
    made = batch(seed=11)
    loss, grad = evaluate(made, SSPOConfig(gate=gate, tau_pos=1e6, tau_neg=1e6))
    expected = -made.advantages[made.mask.any(1)].mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    assert grad.abs().max() < 1e-5


def test_large_tau_collapses_the_raw_sigmoid() -> None:
    made = batch(seed=12, spread=0.3)
    loss, grad = evaluate(made, SSPOConfig(gate="sigmoid_raw", tau_pos=1000.0, tau_neg=1000.0))
    assert abs(loss) < 1e-9 and grad.abs().max() < 1e-9


def test_large_tau_outward_is_a_clip_at_one() -> None:
    made = batch(seed=13)
    outward = SSPOConfig(gate="logarctan_a", sides="outward", tau_pos=1e8, tau_neg=1e8)
    same(evaluate(made, outward), evaluate(made, SSPOConfig(gate="clip", clip_log=1e-9)), 1e-6)


def test_temperature_follows_the_sign_of_the_advantage() -> None:
    made = batch(seed=14)
    base = evaluate(made, SSPOConfig(tau_pos=3.0, tau_neg=3.0))[1]
    positive = evaluate(made, SSPOConfig(tau_pos=9.0, tau_neg=3.0))[1]
    negative = evaluate(made, SSPOConfig(tau_pos=3.0, tau_neg=9.0))[1]
    rewarded, punished = (made.advantages > 0)[:, None] & made.mask, (made.advantages < 0)[:, None] & made.mask
    assert torch.all(positive[rewarded] != base[rewarded]) and torch.equal(positive[punished], base[punished])
    assert torch.all(negative[punished] != base[punished]) and torch.equal(negative[rewarded], base[rewarded])


@MODEST
@given(seed=SEEDS, gate=st.sampled_from([gate for gate in GATES if gate != "clip"]), scale=st.floats(0.01, 100.0))
def test_gradient_is_linear_in_the_advantage_of_one_sign(seed: int, gate: GateName, scale: float) -> None:
    """k(cA) = c·k(A) for c > 0; with one temperature for both signs k is odd in A."""
    made = batch(seed)
    config = gated(SSPOConfig, gate, tau_neg=3.0)
    _, grad = evaluate(made, config)
    _, scaled = evaluate(made, config, advantages=scale * made.advantages)
    _, negated = evaluate(made, config, advantages=-made.advantages)
    torch.testing.assert_close(scaled, scale * grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(negated, -grad, rtol=1e-10, atol=1e-12)


@MODEST
@given(seed=SEEDS, gate=st.sampled_from([gate for gate in GATES if gate not in GATES_OFF_ONE]))
def test_outward_mirrors_with_the_sign_of_the_advantage(seed: int, gate: GateName) -> None:
    """Outward sides are those of A·z > 0: a sequence gated for A is free for −A, token by token."""
    made = batch(seed, sequences=1)
    tokens = Batch(made.z.T, made.behaviour.T, made.mask.T, made.advantages.expand(made.z.shape[1]))
    config = gated(SSPOConfig, gate, sides="outward", tau_neg=3.0)
    gated_by_z = {}
    for sign in (1.0, -1.0):
        _, grad = evaluate(tokens, config, advantages=sign * torch.ones_like(tokens.advantages))
        gated_by_z[sign] = weights(tokens, grad).squeeze(1) / (sign * tokens.z.exp().squeeze(1))
    counted = tokens.mask.squeeze(1)
    for sign, ratio in gated_by_z.items():
        free = counted & (sign * tokens.z.squeeze(1) <= 0)
        torch.testing.assert_close(ratio[free], torch.ones_like(ratio[free]), rtol=1e-10, atol=0)


@MODEST
@given(seed=SEEDS, tau=st.floats(0.5, 30.0))
def test_weight_of_the_default_gate_is_bounded(seed: int, tau: float) -> None:
    """k/A ≤ exp(π/2τ), whatever the ratios."""
    made = batch(seed, spread=3.0)
    _, grad = evaluate(made, SSPOConfig(tau_pos=tau, tau_neg=tau))
    bound = torch.exp(torch.tensor(torch.pi / (2 * tau))) * made.advantages.abs()[:, None]
    assert torch.all(weights(made, grad).abs() <= bound + 1e-12)

"""Values and gradients of `policy_loss` against the plain-Python oracle, in float64."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from sspo_core.config import (
    GATES_OFF_ONE,
    AggregationName,
    GateName,
    GMPOConfig,
    GRPOConfig,
    GSPOConfig,
    SAPOConfig,
    SSPOConfig,
)
from tests.unit.sspo_core import oracle
from tests.unit.sspo_core.batches import Batch, batch, evaluate, unmasked, weights

EXACT = 1e-9
GATES = get_args(GateName)
OUTWARD_GATES = [gate for gate in GATES if gate not in GATES_OFF_ONE]
GATES_AND_SIDES = [(gate, "both") for gate in GATES] + [(gate, "outward") for gate in OUTWARD_GATES]
TAUS = [(3.0, 3.5), (10.0, 12.0), (1.7, 1.6)]


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def check(made: Batch, config: object, value: float, gradient: list[list[float]]) -> None:
    loss, grad = evaluate(made, config)
    assert float(loss) == pytest.approx(value, abs=EXACT)
    assert flat(unmasked(grad, made.mask)) == pytest.approx(flat(gradient), abs=EXACT)
    assert torch.all(grad[~made.mask] == 0)


@pytest.mark.parametrize("taus", TAUS)
@pytest.mark.parametrize(("gate", "sides"), GATES_AND_SIDES)
def test_sspo_is_the_oracle(gate: GateName, sides: str, taus: tuple[float, float]) -> None:
    config = SSPOConfig(gate=gate, sides=sides, tau_pos=taus[0], tau_neg=taus[1], alpha=5.0, centre=0.8, clip_log=0.3)
    made = batch(seed=1)
    signs = made.advantages.tolist()
    check(
        made,
        config,
        oracle.sspo_loss(made.rows, signs, config),
        oracle.gradient(lambda rows: oracle.sspo_loss(rows, signs, config), made.rows),
    )


@pytest.mark.parametrize(("gate", "sides"), GATES_AND_SIDES)
def test_sspo_token_weight_is_a_s_h(gate: GateName, sides: str) -> None:
    """k = A·S·h on gated tokens; with outward sides A·S on the others."""
    config = SSPOConfig(gate=gate, sides=sides, tau_pos=6.0, tau_neg=8.0, alpha=5.0, centre=0.8, clip_log=0.3)
    made = batch(seed=2)
    _, grad = evaluate(made, config)
    expected = oracle.sspo_weights(made.rows, made.advantages.tolist(), config)
    assert flat(unmasked(weights(made, grad), made.mask)) == pytest.approx(flat(expected), abs=EXACT)


def test_outward_leaves_the_pull_back_alone() -> None:
    """On the side where an update brings the token back, k is A·S whatever the gate; on the other the gate shows."""
    made = batch(seed=3, sequences=12)
    config = SSPOConfig(gate="logarctan_a", sides="outward", tau_pos=10.0, tau_neg=12.0)
    _, grad = evaluate(made, config)
    k = weights(made, grad)
    inward = made.mask & (made.advantages[:, None] * made.z < 0)
    outward = made.mask & (made.advantages.sign()[:, None] * made.z > 0.1)
    log_f = torch.where(
        made.advantages[:, None] * made.z > 0,
        torch.atan(torch.where(made.advantages > 0, 10.0, 12.0)[:, None] * made.z)
        / torch.where(made.advantages > 0, 10.0, 12.0)[:, None],
        made.z,
    )
    s = torch.exp((log_f * made.mask).sum(1) / made.mask.sum(1).clamp(min=1))
    plain = (made.advantages * s)[:, None].expand_as(k)
    assert inward.sum() >= 3 and outward.sum() >= 3
    torch.testing.assert_close(k[inward], plain[inward], rtol=EXACT, atol=EXACT)
    assert torch.all(k[outward].abs() < 0.6 * plain[outward].abs())


@pytest.mark.parametrize(("gate", "sides"), GATES_AND_SIDES)
def test_sspo_with_an_advantage_per_token(gate: GateName, sides: str) -> None:
    config = SSPOConfig(gate=gate, sides=sides, tau_pos=3.0, tau_neg=3.5, alpha=5.0, centre=0.8, clip_log=0.3)
    made = batch(seed=24)
    per_token = torch.randn(made.z.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    advantages, frozen = unmasked(per_token, made.mask), made.rows
    loss, grad = evaluate(made, config, advantages=per_token)
    assert float(loss) == pytest.approx(oracle.sspo_token_loss(made.rows, advantages, frozen, config), abs=EXACT)
    expected = oracle.gradient(lambda rows: oracle.sspo_token_loss(rows, advantages, frozen, config), made.rows)
    assert flat(unmasked(grad, made.mask)) == pytest.approx(flat(expected), abs=EXACT)


@pytest.mark.parametrize("aggregation", ["seq-mean-token-mean", "token-mean"])
@pytest.mark.parametrize("clips", [(0.2, 0.2), (0.1, 0.5)])
def test_grpo_is_the_oracle(aggregation: AggregationName, clips: tuple[float, float]) -> None:
    config = GRPOConfig(clip_low=clips[0], clip_high=clips[1], aggregation=aggregation)
    made = batch(seed=6)
    signs = made.advantages.tolist()
    check(
        made,
        config,
        oracle.grpo_loss(made.rows, signs, config),
        oracle.gradient(lambda rows: oracle.grpo_loss(rows, signs, config), made.rows),
    )


def test_grpo_token_weight() -> None:
    config = GRPOConfig()
    made = batch(seed=7)
    _, grad = evaluate(made, config)
    expected = oracle.grpo_weights(made.rows, made.advantages.tolist(), config)
    assert 0.0 in flat(expected)
    assert flat(unmasked(weights(made, grad), made.mask)) == pytest.approx(flat(expected), abs=EXACT)


def test_grpo_with_an_advantage_per_token() -> None:
    config = GRPOConfig(aggregation="token-mean")
    made = batch(seed=8)
    per_token = torch.randn(made.z.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss, _ = evaluate(made, config, advantages=per_token)
    tokens = zip(flat(made.rows), flat(unmasked(per_token, made.mask)), strict=True)
    one_token_each = [([z], a) for z, a in tokens]
    expected = oracle.grpo_loss([z for z, _ in one_token_each], [a for _, a in one_token_each], config)
    assert float(loss) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(("gate", "sides"), GATES_AND_SIDES)
def test_sapo_is_the_oracle(gate: GateName, sides: str) -> None:
    config = SAPOConfig(gate=gate, sides=sides, tau_pos=3.0, tau_neg=3.5, alpha=5.0, centre=0.8, clip_log=0.3)
    made = batch(seed=10)
    signs = made.advantages.tolist()
    check(
        made,
        config,
        oracle.sapo_loss(made.rows, signs, config),
        oracle.gradient(lambda rows: oracle.sapo_loss(rows, signs, config), made.rows),
    )


@pytest.mark.parametrize("clips", [(0.4, 0.4), (0.1, 0.3)])
def test_gmpo_is_the_oracle(clips: tuple[float, float]) -> None:
    config = GMPOConfig(clip_log_low=clips[0], clip_log_high=clips[1])
    made = batch(seed=11)
    signs = made.advantages.tolist()
    check(
        made,
        config,
        oracle.gmpo_loss(made.rows, signs, config),
        oracle.gradient(lambda rows: oracle.gmpo_loss(rows, signs, config), made.rows),
    )


@pytest.mark.parametrize("clips", [(0.5, 0.5), (3e-4, 4e-4)])
def test_gspo_is_the_oracle(clips: tuple[float, float]) -> None:
    config = GSPOConfig(clip_low=clips[0], clip_high=clips[1])
    made = batch(seed=12)
    signs = made.advantages.tolist()
    check(
        made,
        config,
        oracle.gspo_loss(made.rows, signs, config),
        oracle.gradient(lambda rows: oracle.gspo_loss(rows, signs, config), made.rows),
    )


def test_gspo_clips_whole_sequences() -> None:
    made = batch(seed=13, spread=0.2)
    _, grad = evaluate(made, GSPOConfig(clip_low=0.05, clip_high=0.05))
    moved = (grad != 0) & made.mask
    for row, mask in zip(moved, made.mask, strict=True):
        assert bool(row.any()) == bool(torch.equal(row, mask) and mask.any())
    assert moved.any() and not moved[made.mask].all()


def test_kl_penalty_is_k3_against_the_reference() -> None:
    made = batch(seed=14)
    policy = made.behaviour + made.z
    reference = policy + 0.3 * torch.randn(
        policy.shape, generator=torch.Generator().manual_seed(15), dtype=torch.float64
    )
    plain, plain_grad = evaluate(made, GRPOConfig())
    loss, grad = evaluate(made, GRPOConfig(kl_coefficient=0.04), reference_logprobs=reference)
    d = reference - policy
    share = made.mask / (made.mask.sum(1, keepdim=True).clamp(min=1) * made.mask.any(1).sum())
    torch.testing.assert_close(loss - plain, (0.04 * share * (d.exp() - d - 1)).sum(), rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(grad - plain_grad, 0.04 * share * (1 - d.exp()), rtol=EXACT, atol=EXACT)
    with pytest.raises(ValueError, match="reference_logprobs"):
        evaluate(made, SSPOConfig(kl_coefficient=0.04))


@pytest.mark.parametrize("config", [SSPOConfig(), GMPOConfig(), GSPOConfig(clip_low=0.9, clip_high=9.0)])
def test_proximal_policy_weighs_a_sequence_by_its_geometric_mean(config: object) -> None:
    """The ratio is policy/proximal, and proximal/behaviour is a detached weight."""
    made = batch(seed=16)
    shift = 0.3 * torch.randn(made.z.shape, generator=torch.Generator().manual_seed(17), dtype=torch.float64)
    proximal = made.behaviour + shift
    correction = torch.exp((shift * made.mask).sum(1) / made.mask.sum(1).clamp(min=1))
    loss, grad = evaluate(made, config, proximal_logprobs=proximal)
    anchored = Batch(z=made.z - shift, behaviour=proximal, mask=made.mask, advantages=made.advantages * correction)
    expected, expected_grad = evaluate(anchored, config)
    torch.testing.assert_close(loss, expected, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(grad, expected_grad, rtol=EXACT, atol=EXACT)


def test_proximal_policy_weighs_tokens_one_by_one_under_grpo() -> None:
    made = batch(seed=18)
    shift = 0.3 * torch.randn(made.z.shape, generator=torch.Generator().manual_seed(19), dtype=torch.float64)
    proximal = made.behaviour + shift
    loss, _ = evaluate(made, GRPOConfig(), proximal_logprobs=proximal)
    anchored = Batch(z=made.z - shift, behaviour=proximal, mask=made.mask, advantages=made.advantages)
    expected, _ = evaluate(anchored, GRPOConfig(), advantages=made.advantages[:, None] * shift.exp())
    torch.testing.assert_close(loss, expected, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("config", [SSPOConfig(), SAPOConfig(), GRPOConfig(), GMPOConfig(), GSPOConfig()])
def test_proximal_equal_to_behaviour_changes_nothing(config: object) -> None:
    made = batch(seed=20)
    loss, grad = evaluate(made, config)
    same, same_grad = evaluate(made, config, proximal_logprobs=made.behaviour)
    torch.testing.assert_close(same, loss, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(same_grad, grad, rtol=EXACT, atol=EXACT)

"""Identities, bounds and limits between the members of the family, beyond those of SSPO with its neighbours."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from sspo_core.advantages import group_advantages
from sspo_core.config import OBJECTIVES, GMPOConfig, GRPOConfig, GSPOConfig, PowerMeanConfig, SORLConfig, VESPOConfig
from sspo_core.diagnostics.ratio_diagnostics import RatioDiagnostics
from sspo_core.losses import policy_loss
from sspo_core.objectives.means import Power
from sspo_core.objectives.trust_regions import GammaKernel
from sspo_core.types import LossInputs
from tests.unit.sspo_core.batches import MODEST, Batch, batch, evaluate, weights

SEEDS = st.integers(0, 2**20)
POLICY_GRADIENTS = sorted(set(OBJECTIVES) - {"lad", "flowrl"})
"""The others fit a distribution: their weight on-policy is not A."""
OPEN = {"clip_low": 1 - 1e-12, "clip_high": 1e6}
"""A ratio clip that never acts."""


def same(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def k_of(made: Batch, config: Any, **more: Any) -> Tensor:
    return weights(made, evaluate(made, config, **more)[1], config)


@pytest.mark.parametrize("name", POLICY_GRADIENTS)
def test_on_policy_every_weight_is_the_advantage(name: str) -> None:
    made = batch(seed=1, spread=0.0)
    expected = torch.where(made.mask, made.advantages[:, None], 0.0)
    torch.testing.assert_close(k_of(made, OBJECTIVES[name]()), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ratio", ["token", "sequence_geometric", "sequence_product"])
def test_on_policy_weight_of_lad(ratio: Any) -> None:
    """½·log((1 + e^u)/2), which never falls below −½·log 2; times T where all tokens move one product."""
    made = batch(seed=1, spread=0.0)
    config = OBJECTIVES["lad"](ratio=ratio, eta=0.5)
    expected = 0.5 * torch.log((1 + torch.exp(made.advantages / 0.5)) / 2)[:, None] * made.mask
    size = made.mask.sum(1, keepdim=True) if ratio == "sequence_product" else 1
    k = k_of(made, config)
    torch.testing.assert_close(k, expected * size, rtol=1e-12, atol=1e-12)
    assert torch.all(k >= -0.5 * math.log(2.0) * size - 1e-12)


def test_lad_rests_at_its_target() -> None:
    """Where the policy is π_old·exp(A/η), x = 1: no gradient, and the divergence is 0."""
    made = batch(seed=2)
    config = OBJECTIVES["lad"](ratio="token", eta=2.0)
    target = Batch((made.advantages / 2.0)[:, None].expand_as(made.z), made.behaviour, made.mask, made.advantages)
    loss, grad = evaluate(target, config)
    assert abs(loss) < 1e-12 and grad.abs().max() < 1e-12


@MODEST
@given(seed=SEEDS, spread=st.floats(0.01, 1.0))
def test_one_token_equalities(seed: int, spread: float) -> None:
    """T = 1: GSPO, GSPO-token and SORL are GRPO with their clip; a power mean is its only ratio, whatever p."""
    made = batch(seed, sequences=20, tokens=1, spread=spread)
    clip = {"clip_low": 0.2, "clip_high": 0.3}
    grpo = evaluate(made, GRPOConfig(**clip))
    for name in ("gspo", "gspo_token", "sorl"):
        same(evaluate(made, OBJECTIVES[name](**clip)), grpo)
    for exponent in (-3.0, 0.0, 2.0):
        same(evaluate(made, PowerMeanConfig(exponent=exponent, **clip)), grpo)


def test_one_token_gmpo_has_the_upper_side_of_ppo() -> None:
    """c = log(1 + ε): equal where A > 0. Below, its bound is 1/(1 + ε) and PPO's 1 − ε."""
    made = batch(seed=3, sequences=200, tokens=1)
    gmpo = k_of(made, GMPOConfig(clip_log_low=math.log(1.2), clip_log_high=math.log(1.2)))
    ppo = k_of(made, GRPOConfig())
    positive = made.advantages > 0
    torch.testing.assert_close(gmpo[positive], ppo[positive], rtol=1e-10, atol=1e-12)
    between = (made.advantages < 0) & (made.z[:, 0] < math.log(1 / 1.2)) & (made.z[:, 0] > math.log(0.8))
    assert int(between.sum()) > 3 and torch.all(gmpo[between] == 0) and torch.all(ppo[between] != 0)


def test_one_token_vespo_differs_from_gspo_by_its_kernel_alone() -> None:
    made = batch(seed=4, sequences=40, tokens=1)
    vespo, gspo = k_of(made, VESPOConfig()), k_of(made, GSPOConfig(**OPEN))
    kernel = GammaKernel(2.0, 3.0, 3.0, 2.0)
    phi = kernel.log_f(made.z, (made.advantages > 0)[:, None]).exp()
    torch.testing.assert_close(vespo, gspo / made.z.exp() * phi, rtol=1e-9, atol=1e-12)


def test_kernels_of_vespo_at_their_ends() -> None:
    """c1 = c2 = 0 is REINFORCE; c1 = 1, c2 = 0 exact importance sampling of sequences, with the product Πr."""
    made = batch(seed=5, sequences=9)
    agg = {"aggregation": "seq-mean-token-sum"}
    flat = dict.fromkeys(("power_pos", "decay_pos", "power_neg", "decay_neg"), 0.0)
    same(evaluate(made, VESPOConfig(**flat, **agg)), evaluate(made, OBJECTIVES["reinforce"]()))
    exact = VESPOConfig(power_pos=1.0, power_neg=1.0, decay_pos=0.0, decay_neg=0.0, **agg)
    product = torch.exp((made.z * made.mask).sum(1))
    expected = (made.advantages * product)[:, None] * made.mask
    torch.testing.assert_close(k_of(made, exact), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("power", "decay", "largest"), [(2.0, 3.0, 1.21), (3.0, 2.0, 1.24)])
def test_largest_value_of_the_kernel(power: float, decay: float, largest: float) -> None:
    z = torch.linspace(-20, 20, 400_001, dtype=torch.float64)[None]
    phi = GammaKernel(power, decay, power, decay).log_f(z, z > 0).exp()
    bound = (power / decay) ** power * math.exp(decay - power)
    assert float(phi.max()) == pytest.approx(bound, rel=1e-6) == pytest.approx(largest, abs=5e-3)
    assert float(z[0, phi.argmax()]) == pytest.approx(math.log(power / decay), abs=2e-4)


def test_turns_lead_from_ppo_to_gspo() -> None:
    """One token a turn is PPO on tokens, one turn a sequence GSPO."""
    made = batch(seed=6, sequences=9)
    clip = {"clip_low": 0.2, "clip_high": 0.3}
    each = torch.arange(made.z.shape[1]).expand(made.z.shape)
    same(evaluate(made, SORLConfig(**clip), turn_ids=each), evaluate(made, GRPOConfig(**clip)))
    same(evaluate(made, SORLConfig(**clip), turn_ids=torch.zeros_like(each)), evaluate(made, GSPOConfig(**clip)))


def test_a_turn_averages_the_advantages_of_its_tokens() -> None:
    """SORL's gradient goes through the turn's ratio: k_t = w·mean of the turn's A where nothing is clipped."""
    made = batch(seed=7, sequences=9)
    given_BT = torch.randn(made.z.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    k = k_of(made, SORLConfig(**OPEN), advantages=given_BT)
    for row in range(len(k)):
        for turn in (9, 5):
            tokens = made.mask[row] & (made.turn_ids[row] == turn)
            if tokens.any():
                expected = made.z[row, tokens].mean().exp() * given_BT[row, tokens].mean()
                torch.testing.assert_close(k[row, tokens], expected.expand(int(tokens.sum())), rtol=1e-9, atol=1e-12)


def test_gspo_token_keeps_advantages_to_their_tokens_and_gspo_averages_them() -> None:
    made = batch(seed=8, sequences=9)
    given_BT = torch.rand(made.z.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    s = torch.exp((made.z * made.mask).sum(1) / made.mask.sum(1).clamp(min=1))[:, None]
    token = k_of(made, OBJECTIVES["gspo_token"](**OPEN), advantages=given_BT)
    sequence = k_of(made, GSPOConfig(**OPEN), advantages=given_BT)
    mean = (given_BT * made.mask).sum(1, keepdim=True) / made.mask.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(token, s * given_BT * made.mask, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sequence, s * mean * made.mask, rtol=1e-9, atol=1e-12)


def test_dr_grpo_times_its_factor_is_rloo() -> None:
    """On-policy, with L = 1: A^loo = G/(G − 1)·A."""
    made = batch(seed=9, sequences=4, spread=0.0)
    rewards = torch.tensor([[0.0, 1.0, 0.3, 0.9]], dtype=torch.float64)
    _, dr_grpo = evaluate(
        made, OBJECTIVES["dr_grpo"](norm_tokens=1), advantages=group_advantages(rewards, "group_mean")[0]
    )
    _, rloo = evaluate(made, OBJECTIVES["rloo"](), advantages=group_advantages(rewards, "leave_one_out")[0])
    torch.testing.assert_close(dr_grpo * 4 / 3, rloo, rtol=1e-12, atol=1e-14)


def test_sum_norm_and_the_other_aggregations() -> None:
    """seq-mean-token-sum is sum-norm with L = 1, and at equal lengths T times the mean of means."""
    made = batch(seed=10)
    everything = Batch(made.z, made.behaviour, torch.ones_like(made.mask), made.advantages)
    size = made.z.shape[1]

    def outcome(aggregation: Any, norm_tokens: int = 1) -> tuple[Tensor, Tensor]:
        return evaluate(everything, GRPOConfig(aggregation=aggregation, norm_tokens=norm_tokens))

    same(outcome("sum-norm"), outcome("seq-mean-token-sum"))
    same(outcome("sum-norm", size), outcome("seq-mean-token-mean"))
    same(outcome("token-mean"), outcome("seq-mean-token-mean"))


def test_power_means_meet_their_neighbours() -> None:
    """p = 1 is unclipped GRPO and SAPO, p = 0 unclipped GMPO and SSPO, and p = −1 the harmonic mean."""
    made = batch(seed=11, sequences=9)
    gate = {"gate": "arctan", "tau_pos": 3.0, "tau_neg": 4.0}
    same(evaluate(made, PowerMeanConfig(exponent=1.0, **OPEN)), evaluate(made, GRPOConfig(**OPEN)))
    same(evaluate(made, PowerMeanConfig(exponent=1.0, **gate, **OPEN)), evaluate(made, OBJECTIVES["sapo"](**gate)))
    unclipped = GMPOConfig(clip_log_low=20.0, clip_log_high=20.0)
    same(evaluate(made, PowerMeanConfig(exponent=0.0, **OPEN)), evaluate(made, unclipped))
    same(evaluate(made, PowerMeanConfig(exponent=0.0, **gate, **OPEN)), evaluate(made, OBJECTIVES["sspo"](**gate)))
    loss, _ = evaluate(made, PowerMeanConfig(exponent=-1.0, **OPEN))
    harmonic = [
        a * len(row) / sum(math.exp(-z) for z in row)
        for row, a in zip(made.rows, made.advantages.tolist(), strict=True)
        if row
    ]
    assert float(loss) == pytest.approx(-sum(harmonic) / len(harmonic), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_power_means_are_continuous_at_0(dtype: torch.dtype) -> None:
    made = batch(seed=12, sequences=9, dtype=dtype)
    geometric = evaluate(made, PowerMeanConfig(exponent=0.0, **OPEN))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-11
    for exponent in (1e-4, -1e-4, 1e-6, -1e-6, 1e-9, -1e-9):
        close = tolerance + abs(exponent)
        same(evaluate(made, PowerMeanConfig(exponent=exponent, **OPEN)), geometric, close)


@MODEST
@given(
    seed=SEEDS,
    spread=st.floats(0.01, 2.0),
    low=st.floats(-20.0, 20.0),
    gap=st.floats(0.0, 20.0),
)
def test_power_means_rise_with_their_exponent(seed: int, spread: float, low: float, gap: float) -> None:
    """Harmonic ≤ geometric ≤ arithmetic, and everything between: AM-GM for s_i ≤ mean r too."""
    made = batch(seed, spread=spread)
    smaller, larger = (Power(p).log_mean(made.z, made.mask) for p in (low, min(low + gap, 20.0)))
    assert torch.all(smaller <= larger + 1e-9)
    filled = made.mask.any(1)
    extremes = torch.where(made.mask, made.z, -torch.inf).amax(1), torch.where(made.mask, made.z, torch.inf).amin(1)
    assert torch.all(larger[filled, 0] <= extremes[0][filled] + 1e-9)
    assert torch.all(smaller[filled, 0] >= extremes[1][filled] - 1e-9)


@MODEST
@given(seed=SEEDS, exponent=st.floats(-20.0, 20.0), spread=st.floats(0.0, 4.0))
def test_shares_of_a_power_mean_average_1(seed: int, exponent: float, spread: float) -> None:
    made = batch(seed, spread=spread)
    shares = Power(exponent).shares(made.z, made.mask)
    total = (shares * made.mask).sum(1)
    torch.testing.assert_close(total, made.mask.sum(1).double(), rtol=1e-9, atol=1e-9)


@MODEST
@given(seed=SEEDS, name=st.sampled_from(POLICY_GRADIENTS), factor=st.floats(0.01, 100.0))
def test_weights_scale_with_the_advantage_of_one_sign(seed: int, name: str, factor: float) -> None:
    made = batch(seed)
    config = OBJECTIVES[name]()
    _, grad = evaluate(made, config)
    _, scaled = evaluate(made, config, advantages=factor * made.advantages)
    torch.testing.assert_close(scaled, factor * grad, rtol=1e-10, atol=1e-12)


UNSIGNED: list[tuple[str, dict[str, Any]]] = [
    ("reinforce", {}),
    ("rloo", {}),
    ("cispo", {}),
    ("vespo", {"power_pos": 2.0, "power_neg": 2.0, "decay_pos": 1.0, "decay_neg": 1.0}),
    ("ppo", {"clip_sides": "two"}),
    ("sapo", {"tau_pos": 2.0, "tau_neg": 2.0}),
    ("power_mean", {"exponent": 2.0, **OPEN}),
]


@pytest.mark.parametrize(("name", "fields"), UNSIGNED)
def test_weights_are_odd_where_nothing_asks_for_the_sign(name: str, fields: dict[str, Any]) -> None:
    made = batch(seed=13, sequences=9)
    config = OBJECTIVES[name](**fields)
    _, grad = evaluate(made, config)
    _, negated = evaluate(made, config, advantages=-made.advantages)
    torch.testing.assert_close(negated, -grad, rtol=1e-10, atol=1e-12)


@MODEST
@given(seed=SEEDS, spread=st.floats(0.1, 6.0))
def test_bounds_of_the_weights(seed: int, spread: float) -> None:
    """k/A: CISPO at most 1 + ε, VESPO at most φ_max, SAPO r·sech², clipped ones 1 + ε for A > 0; for A < 0 a plain clip
    has no bound, which is what a dual clip is for."""
    made = batch(seed, sequences=9, spread=spread)
    size = torch.where(made.advantages == 0, 1.0, made.advantages)[:, None]
    positive, negative = ((made.advantages * sign > 0)[:, None] & made.mask for sign in (1.0, -1.0))

    def relative(name: str, **fields: Any) -> Tensor:
        return k_of(made, OBJECTIVES[name](**fields)) / size

    assert torch.all(relative("cispo") <= 5.0 + 1e-9)
    phi = relative("vespo")
    assert torch.all(phi[positive] <= 1.2082) and torch.all(phi[negative] <= 1.2416) and torch.all(phi >= 0)
    assert torch.all(relative("sapo")[positive] <= 1.58)
    for name, fields in (("grpo", {}), ("dapo", {}), ("gspo", {}), ("sorl", {}), ("power_mean", {"exponent": 1.0})):
        bound = 1.0 + OBJECTIVES[name](**fields).clip_high
        share = made.mask.sum(1, keepdim=True) if name == "power_mean" else 1
        assert torch.all(((relative(name, **fields) / share)[positive]) <= bound + 1e-9)
    assert torch.all(relative("ppo", dual_clip=3.0)[negative] <= 3.0 + 1e-9)
    far = made.mask & (made.z > math.log(4.0)) & (made.z < 20.0) & negative
    assume(far.any())
    assert torch.all(relative("ppo")[far] > 3.0) and torch.all(relative("ppo", dual_clip=3.0)[far] == 0)


@MODEST
@given(seed=SEEDS, name=st.sampled_from(sorted(OBJECTIVES)), proximal=st.booleans())
def test_gate_weight_figure_is_what_the_gradient_says(seed: int, name: str, proximal: bool) -> None:
    """mean k/A from the diagnostics equals k/A read off autograd, for every objective."""
    made = batch(seed, sequences=9)
    made = Batch(made.z, made.behaviour, made.mask, torch.where(made.advantages < 0, -0.8, 1.2).double())
    config = OBJECTIVES[name]()
    policy = (made.behaviour + made.z).requires_grad_()
    extras = made.needed_by(config)
    if proximal:
        extras["proximal_logprobs"] = made.behaviour + 0.2 * made.z.cos()
    outputs = policy_loss(LossInputs(policy, made.behaviour, made.advantages, made.mask, **extras), config)
    outputs.loss.backward()
    assert policy.grad is not None
    k = weights(made, policy.grad, config) / made.advantages[:, None]
    if name == "lad":
        k = k / made.mask.sum(1, keepdim=True).clamp(min=1)  # the figure is of W itself, which T tokens move
    figures = RatioDiagnostics(outputs.metrics).figures()
    assert figures["gate_weight_mean"] == pytest.approx(float(k[made.mask].mean()), rel=1e-9, abs=1e-12)


def test_vespo_takes_the_advantage_of_unmasked_tokens() -> None:
    """Where the first position of a sequence is masked its advantage must not decide the kernel."""
    made = batch(seed=14, sequences=6)
    mask = made.mask.clone()
    mask[:, 0] = False
    made = Batch(made.z, made.behaviour, mask, made.advantages)
    per_token = torch.where(mask, made.advantages[:, None], torch.nan)
    same(evaluate(made, VESPOConfig(), advantages=per_token), evaluate(made, VESPOConfig()))

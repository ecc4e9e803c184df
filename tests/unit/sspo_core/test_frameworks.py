"""Our objectives against the formulas of verl (August 2026), TRL (July 2026) and FlowRL's code, written out here.

Equal values and gradients where they claim the same objective. Where they differ, the test says in which way: from then
on it fails if we change sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sspo_core.advantages import group_advantages
from sspo_core.config import OBJECTIVES, CorrectionConfig
from tests.unit.sspo_core.batches import Batch, batch, evaluate


class Theirs:
    """The tensors that their losses take: log-probs [B, T], old ones, advantages [B, T], a float mask."""

    def __init__(self, made: Batch) -> None:
        self.logp = (made.behaviour + made.z).detach().requires_grad_()
        self.old = made.behaviour
        self.advantages = made.advantages[:, None].expand_as(made.z)
        self.mask = made.mask.double()
        self.reference = made.reference
        self.log_z = made.log_partition

    @property
    def log_ratio(self) -> Tensor:
        return self.logp - self.old

    @property
    def lengths(self) -> Tensor:
        return self.mask.sum(-1)


Formula = Callable[[Theirs], Tensor]


def full(seed: int = 50, spread: float = 0.4) -> Batch:
    """Without a sequence that has no token: verl's geo_mean and TRL's means over sequences would count it."""
    made = batch(seed, sequences=9, spread=spread)
    mask = made.mask.clone()
    mask[2, :3] = True
    return Batch(made.z, made.behaviour, mask, made.advantages)


def outcome(formula: Formula, made: Batch) -> tuple[Tensor, Tensor]:
    theirs = Theirs(made)
    loss = formula(theirs)
    (grad,) = torch.autograd.grad(loss, theirs.logp)
    return loss.detach(), grad


def equal(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)  # verl divides by T + 1e-8


# verl: agg_loss


def token_mean(x: Tensor, t: Theirs) -> Tensor:
    return (x * t.mask).sum() / t.mask.sum()


def seq_mean_token_mean(x: Tensor, t: Theirs) -> Tensor:
    return ((x * t.mask).sum(-1) / (t.lengths + 1e-8)).sum() / (t.lengths > 0).sum()


def seq_mean_token_sum(x: Tensor, t: Theirs) -> Tensor:
    return (x * t.mask).sum() / (t.lengths > 0).sum()


# verl: policy losses


def verl_vanilla(
    agg: Callable[[Tensor, Theirs], Tensor], low: float = 0.2, high: float = 0.2, c: float = 3.0
) -> Formula:
    """PPO with a dual clip, which is on by default."""

    def formula(t: Theirs) -> Tensor:
        ratio = t.log_ratio.clamp(-20, 20).exp()
        plain, cut = -t.advantages * ratio, -t.advantages * ratio.clamp(1 - low, 1 + high)
        upper = torch.maximum(plain, cut)
        return agg(torch.where(t.advantages < 0, torch.min(-t.advantages * c, upper), upper), t)

    return formula


def verl_gspo(t: Theirs) -> Tensor:
    mean = (t.log_ratio * t.mask).sum(-1) / t.lengths.clamp(min=1)
    ratio = (t.logp - t.logp.detach() + mean.detach()[:, None]).clamp(max=10.0).exp()
    losses = torch.maximum(-t.advantages * ratio, -t.advantages * ratio.clamp(1 - 0.1, 1 + 0.15))
    return seq_mean_token_mean(losses, t)


def verl_sapo(t: Theirs) -> Tensor:
    tau = torch.where(t.advantages > 0, 1.0, 1.05).double()
    ratio = t.log_ratio.clamp(-20, 20).exp()
    return seq_mean_token_mean(-torch.sigmoid(tau * (ratio - 1)) * 4 / tau * t.advantages, t)


def verl_geo_mean(t: Theirs) -> Tensor:
    sign = t.advantages.sign()
    cut = sign * torch.min(sign * t.log_ratio, sign * t.log_ratio.clamp(-0.4, 0.4))
    ratio = torch.exp((cut * t.mask).sum(-1) / (t.lengths + 1e-8))
    advantage = (t.advantages * t.mask).sum(-1) / (t.lengths + 1e-8)
    return (-advantage * ratio).mean()


def verl_cispo(t: Theirs) -> Tensor:
    weight = t.log_ratio.clamp(-20, 20).exp().clamp(1 - 10, 1 + 0.2).detach()
    return token_mean(-weight * t.advantages * t.logp, t)


# TRL: GRPOTrainer, one process, one micro-batch


def trl_grpo(t: Theirs, low: float = 0.2, high: float = 0.2, delta: float | None = None) -> Tensor:
    """Per token, before the aggregation."""
    ratio = t.log_ratio.exp()
    cut = ratio.clamp(1 - low, 1 + high)
    ratio = ratio if delta is None else ratio.clamp(max=delta)
    return -torch.min(ratio * t.advantages, cut * t.advantages)


def trl_mean(x: Tensor, t: Theirs) -> Tensor:
    return ((x * t.mask).sum(-1) / t.lengths.clamp(min=1.0)).mean()


def trl_sequence(t: Theirs) -> Tensor:
    """`importance_sampling_level="sequence"` with `loss_type="grpo"`, TRL's GSPO."""
    ratio = ((t.log_ratio * t.mask).sum(-1) / t.lengths.clamp(min=1.0)).exp()[:, None]
    losses = -torch.min(ratio * t.advantages, ratio.clamp(1 - 0.1, 1 + 0.15) * t.advantages)
    return trl_mean(losses, t)


def trl_cispo(t: Theirs) -> Tensor:
    return token_mean(-t.log_ratio.exp().clamp(max=5.0).detach() * t.advantages * t.logp, t)


def trl_sapo(t: Theirs) -> Tensor:
    tau = torch.where(t.advantages > 0, 1.0, 1.05).double()
    return trl_mean(-torch.sigmoid(tau * (t.log_ratio.exp() - 1)) * 4 / tau * t.advantages, t)


def trl_vespo(t: Theirs) -> Tensor:
    log_w = (t.log_ratio.clamp(-20, 20) * t.mask).sum(-1, keepdim=True).clamp(math.log(1e-8), 20.0)
    k = torch.where(t.advantages >= 0, 2.0, 3.0).double()
    decay = torch.where(t.advantages >= 0, 3.0, 2.0).double()
    phi = torch.exp(decay + k * log_w - decay * log_w.exp()).detach()
    return token_mean(-phi * t.advantages * t.logp, t)


def trl_gmpo(t: Theirs) -> Tensor:
    cut = t.log_ratio.clamp(-0.4, 0.4)
    one_sided = torch.where(t.advantages > 0, torch.minimum(t.log_ratio, cut), torch.maximum(t.log_ratio, cut))
    coefficient = ((one_sided * t.mask).sum(-1) / t.lengths.clamp(min=1.0)).exp()
    return (-coefficient * t.advantages[:, 0]).mean()


def flowrl_code(t: Theirs) -> Tensor:
    """`compute_flowrl_objective`: the product without its clip, β = 15."""

    def masked_mean(x: Tensor) -> Tensor:
        return (x * t.mask).sum(-1) / t.lengths

    delta = t.log_z + masked_mean(t.logp) - 15 * masked_mean(t.advantages) - masked_mean(t.reference)
    weight = torch.exp((t.log_ratio * t.mask).sum(-1)).detach()
    return (weight * delta**2).mean()


SAME: list[tuple[str, str, dict[str, Any], Formula]] = [
    ("verl vanilla", "ppo", {"dual_clip": 3.0}, verl_vanilla(token_mean)),
    ("verl vanilla", "reinforce_pp", {"dual_clip": 3.0}, verl_vanilla(token_mean)),
    ("verl vanilla", "grpo", {"dual_clip": 3.0}, verl_vanilla(seq_mean_token_mean)),
    ("verl vanilla", "grpo", {"dual_clip": 1.3}, verl_vanilla(seq_mean_token_mean, c=1.3)),
    ("verl vanilla", "grpo", {"aggregation": "seq-mean-token-sum"}, verl_vanilla(seq_mean_token_sum, c=1e9)),
    ("verl dapo", "dapo", {"dual_clip": 3.0}, verl_vanilla(token_mean, high=0.28)),
    ("verl dr_grpo", "dr_grpo", {"norm_tokens": 64}, lambda t: verl_vanilla(seq_mean_token_sum, c=1e9)(t) / 64),
    ("verl gspo", "gspo_token", {"clip_low": 0.1, "clip_high": 0.15}, verl_gspo),
    ("verl gspo", "gspo", {"clip_low": 0.1, "clip_high": 0.15}, verl_gspo),
    ("verl sapo", "sapo", {}, verl_sapo),
    ("verl geo_mean", "gmpo", {}, verl_geo_mean),
    ("verl cispo", "cispo", {"clip_low": 1.0, "clip_high": 0.2}, verl_cispo),
    ("verl gpg", "reinforce", {"aggregation": "token-mean"}, lambda t: token_mean(-t.logp * t.advantages, t)),
    ("verl reinforce", "reinforce", {}, lambda t: seq_mean_token_sum(-t.logp * t.advantages, t)),
    ("verl reinforce", "rloo", {}, lambda t: seq_mean_token_sum(-t.logp * t.advantages, t)),
    ("trl grpo", "grpo", {}, lambda t: trl_mean(trl_grpo(t), t)),
    ("trl grpo delta", "grpo", {"dual_clip": 1.5}, lambda t: trl_mean(trl_grpo(t, delta=1.5), t)),
    ("trl dapo", "dapo", {}, lambda t: token_mean(trl_grpo(t, high=0.28), t)),
    ("trl dr_grpo", "dr_grpo", {"norm_tokens": 64}, lambda t: (trl_grpo(t) * t.mask).sum() / (len(t.mask) * 64)),
    ("trl sequence", "gspo", {"clip_low": 0.1, "clip_high": 0.15}, trl_sequence),
    ("trl cispo", "cispo", {}, trl_cispo),
    ("trl sapo", "sapo", {}, trl_sapo),
    ("trl vespo", "vespo", {}, trl_vespo),
    ("trl gmpo", "gmpo", {}, trl_gmpo),
    ("flowrl", "flowrl", {"importance_clip": None}, flowrl_code),
]


@pytest.mark.parametrize("spread", [0.05, 0.4, 1.0])
@pytest.mark.parametrize(("claim", "name", "fields", "formula"), SAME, ids=[f"{c}={n}" for c, n, _, _ in SAME])
def test_the_same_objective(claim: str, name: str, fields: dict[str, Any], formula: Formula, spread: float) -> None:
    made = full(spread=spread)
    equal(evaluate(made, OBJECTIVES[name](**fields)), outcome(formula, made))


@pytest.mark.parametrize(
    ("name", "formula"), [("gmpo", verl_geo_mean), ("gmpo", trl_gmpo), ("grpo", lambda t: trl_mean(trl_grpo(t), t))]
)
def test_they_count_a_sequence_without_a_token(name: str, formula: Formula) -> None:
    """verl's geo_mean and TRL divide by all B sequences, we by those that have a token."""
    made = full()
    mask = made.mask.clone()
    mask[2] = False
    made = Batch(made.z, made.behaviour, mask, torch.where(mask.any(1), made.advantages, 0.0))
    loss, grad = evaluate(made, OBJECTIVES[name]())
    theirs, their_grad = outcome(formula, made)
    equal((loss * 8 / 9, grad * 8 / 9), (theirs, their_grad))


def test_verl_bounds_the_sequence_ratio_of_gspo_at_e_to_the_10() -> None:
    """We bound it at e^20, token by token: a sequence between the two has a gradient here and none there."""
    made = full()
    far = Batch(torch.full_like(made.z, 12.0), made.behaviour, made.mask, -made.advantages.abs())
    _, grad = evaluate(far, OBJECTIVES["gspo"]())
    _, theirs = outcome(verl_gspo, far)
    assert (grad[far.mask & (far.advantages != 0)[:, None]] != 0).all() and torch.all(theirs == 0)


def test_verl_bounds_k3_at_10() -> None:
    """verl cuts the estimate at 10, where its gradient ends; ours goes on to d = 20."""
    made = full()
    reference = made.behaviour + made.z + 3.0
    config = OBJECTIVES["grpo"](kl_coefficient=0.1)
    _, grad = evaluate(made, config, reference_logprobs=reference)
    _, plain = evaluate(made, OBJECTIVES["grpo"]())

    def penalty(t: Theirs) -> Tensor:
        d = (reference - t.logp).clamp(-20, 20)
        return 0.1 * seq_mean_token_mean((d.exp() - d - 1).clamp(-10, 10), t)

    _, theirs = outcome(penalty, made)
    assert torch.all(theirs == 0) and torch.all((grad - plain)[made.mask] < 0)


@pytest.mark.parametrize("mode", ["token", "sequence"])
@pytest.mark.parametrize("importance", ["truncated", "masked"])
def test_trl_corrects_the_samplers_mismatch_alike(mode: str, importance: Any) -> None:
    """Its four modes: the loss times exp(old − sampling), by token or by the sequence's sum, cut or masked."""
    made = full()
    log_w = 0.4 * torch.sin(11.0 * made.behaviour)
    old, cap = made.behaviour + log_w, 1.25
    summed = log_w if mode == "token" else (log_w * made.mask).sum(-1, keepdim=True)
    weight = summed.exp()
    weight = weight.clamp(max=cap) if importance == "truncated" else torch.where(weight > cap, 0.0, weight)

    def formula(t: Theirs) -> Tensor:
        t.old = old
        return trl_mean(trl_grpo(t) * weight, t)

    level: Any = "token" if mode == "token" else "sequence_product"
    corrections = CorrectionConfig(importance=importance, level=level, high=cap)
    ours = evaluate(made, OBJECTIVES["grpo"](), proximal_logprobs=old, corrections=corrections)
    equal(ours, outcome(formula, made))


REWARDS = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.3, 0.9, 0.1, 0.2]], dtype=torch.float64)


def test_advantages_of_verl_and_trl() -> None:
    """verl's floor of the std is ours, 1e-6; TRL's is 1e-4, which shows only where rewards hardly differ."""
    centred = REWARDS - REWARDS.mean(1, keepdim=True)
    std = REWARDS.std(1, keepdim=True)
    torch.testing.assert_close(group_advantages(REWARDS), centred / (std + 1e-6), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(group_advantages(REWARDS, "group_mean"), centred, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(group_advantages(REWARDS), centred / (std + 1e-4), rtol=1e-3, atol=0)
    near = 1e-4 * REWARDS
    trl = 1e-4 * centred / (1e-4 * std + 1e-4)
    assert torch.all(group_advantages(near).abs() > 1.5 * trl.abs())


def test_rloo_of_verl() -> None:
    size = REWARDS.shape[1]
    theirs = REWARDS * size / (size - 1) - REWARDS.mean(1, keepdim=True) * size / (size - 1)
    torch.testing.assert_close(group_advantages(REWARDS, "leave_one_out"), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["group_std", "group_mean", "leave_one_out"])
def test_verl_trains_a_group_of_one_with_its_bare_reward(kind: Any) -> None:
    """verl takes 0 for its mean and 1 for its std; a reward that is compared with nothing is 0 here."""
    assert float(group_advantages(torch.tensor([[0.7]]), kind)) == 0.0


def test_reinforce_pp_of_verl() -> None:
    """masked_whiten over the tokens of the batch, with γ = 1."""
    made = full()
    rewards = made.advantages
    returns = rewards[:, None].expand_as(made.z)[made.mask]
    whitened = (returns - returns.mean()) * torch.rsqrt(returns.var() + 1e-8)
    ours = group_advantages(rewards[None], "batch_whitened", token_counts=made.mask.sum(1)[None])[0]
    torch.testing.assert_close(ours[:, None].expand_as(made.z)[made.mask], whitened, rtol=1e-10, atol=1e-12)

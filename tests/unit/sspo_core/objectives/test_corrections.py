"""Truncation, masking, rejection and reference penalties, with any objective and off unless asked for."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sspo_core.config import OBJECTIVES, CorrectionConfig, GRPOConfig, RLOOConfig, SSPOConfig, VESPOConfig
from sspo_core.diagnostics.ratio_diagnostics import RatioDiagnostics
from sspo_core.losses import policy_loss
from sspo_core.types import LossInputs
from tests.unit.sspo_core.batches import MODEST, Batch, batch, evaluate

SEEDS = st.integers(0, 2**20)
NAMES = st.sampled_from(sorted(OBJECTIVES))
LEVELS = ("token", "sequence_product", "sequence_geometric")
WIDE = {"low": 0.0, "high": 1e6}


def shifted(made: Batch, seed: int = 7, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """log w = proximal − behaviour, and the proximal log-probs."""
    log_w = spread * torch.randn(made.z.shape, generator=torch.Generator().manual_seed(seed), dtype=made.z.dtype)
    return log_w, made.behaviour + log_w


def same(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def at_level(log_w: Tensor, mask: Tensor, level: str) -> Tensor:
    """w at every token, in plain steps."""
    if level == "token":
        return log_w.exp()
    total = torch.where(mask, log_w, 0.0).sum(1, keepdim=True)
    if level == "sequence_geometric":
        total = total / mask.sum(1, keepdim=True).clamp(min=1)
    return total.exp().expand_as(log_w)


@MODEST
@given(seed=SEEDS, name=NAMES, level=st.sampled_from(LEVELS))
def test_a_weight_in_its_band_is_the_plain_one(seed: int, name: str, level: Any) -> None:
    made = batch(seed)
    _, proximal = shifted(made)
    config = OBJECTIVES[name]()
    if level == "token" and name in SHARED:
        return
    plain = evaluate(made, config, proximal_logprobs=proximal, corrections=CorrectionConfig(level=level))
    for importance in ("truncated", "masked"):
        corrections = CorrectionConfig(importance=importance, level=level, **WIDE)
        same(evaluate(made, config, proximal_logprobs=proximal, corrections=corrections), plain)


@MODEST
@given(
    seed=SEEDS, name=NAMES, importance=st.sampled_from(["full", "truncated", "masked"]), level=st.sampled_from(LEVELS)
)
def test_equal_policies_need_no_correction(seed: int, name: str, importance: Any, level: Any) -> None:
    """proximal = behaviour, with 1 inside the bounds and no rejection of ratios near it."""
    made = batch(seed)
    corrections = CorrectionConfig(
        importance=importance, level=level, low=0.9, high=1.1, rejection_low=0.99, rejection_high=1.01
    )
    config = OBJECTIVES[name]()
    if level == "token" and name in SHARED:
        return
    corrected = evaluate(made, config, proximal_logprobs=made.behaviour, corrections=corrections)
    if level == "token" and name in ONE_MEAN:  # the form per token: the same gradient, another value
        torch.testing.assert_close(corrected[1], evaluate(made, config)[1], rtol=1e-10, atol=1e-12)
    else:
        same(corrected, evaluate(made, config))


SHARED = ("gspo", "sorl")
ONE_MEAN = ("sspo", "gmpo", "power_mean")


@pytest.mark.parametrize("name", ["sspo", "gmpo", "power_mean", "sapo", "grpo", "dapo", "cispo", "gspo_token"])
def test_a_masked_token_takes_its_gradient_along_and_no_others(name: str) -> None:
    made = batch(seed=5, sequences=9)
    proximal = made.behaviour.clone()
    proximal[0, 0] += 3.0
    shifted_z = Batch(made.z, made.behaviour, made.mask, made.advantages)
    config, masked = OBJECTIVES[name](), CorrectionConfig(importance="masked", level="token", low=0.5, high=2.0)
    full = CorrectionConfig(importance="full", level="token")
    _, grad = evaluate(shifted_z, config, proximal_logprobs=proximal, corrections=masked)
    _, whole = evaluate(shifted_z, config, proximal_logprobs=proximal, corrections=full)
    assert grad[0, 0] == 0 and whole[0, 0] != 0
    others = torch.ones_like(made.mask)
    others[0, 0] = False
    torch.testing.assert_close(grad[others], whole[others], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SHARED)
def test_tokens_that_share_a_ratio_have_no_weights_of_their_own(name: str) -> None:
    made = batch(seed=5)
    with pytest.raises(ValueError, match="level: token weights need"):
        evaluate(
            made,
            OBJECTIVES[name](),
            proximal_logprobs=made.behaviour,
            corrections=CorrectionConfig(importance="masked", level="token"),
        )


def test_a_rejected_sequence_has_no_penalty_either() -> None:
    made = batch(seed=6)
    rejects_all = CorrectionConfig(rejection_low=1e5, rejection_high=1e6)
    config = GRPOConfig(kl_coefficient=0.1)
    loss, grad = evaluate(made, config, reference_logprobs=made.reference, corrections=rejects_all)
    assert loss == 0 and torch.all(grad == 0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("importance", ["truncated", "masked"])
def test_truncation_and_masking(importance: Any, level: Any) -> None:
    """The ratio is to the proximal policy, and each token counts by w, cut or dropped at its level."""
    made = batch(seed=1, sequences=40)
    log_w, proximal = shifted(made)
    low, high = 0.85, 1.2
    w = at_level(log_w, made.mask, level)
    inside = (w >= low) & (w <= high)
    expected_w = w.clamp(low, high) if importance == "truncated" else torch.where(inside, w, 0.0)
    assert 0 < int((inside & made.mask).sum()) < int(made.mask.sum())
    corrections = CorrectionConfig(importance=importance, level=level, low=low, high=high)
    outcome = evaluate(made, GRPOConfig(), proximal_logprobs=proximal, corrections=corrections)
    anchored = Batch(made.z - log_w, proximal, made.mask, made.advantages)
    same(outcome, evaluate(anchored, GRPOConfig(), advantages=made.advantages[:, None] * expected_w))


@pytest.mark.parametrize("name", ["rloo", "reinforce"])
def test_objectives_without_a_ratio_take_policy_over_behaviour(name: str) -> None:
    """Truncated importance sampling of REINFORCE: −Σ N·min(w, C)·A·log π, w detached."""
    made = batch(seed=2, sequences=9)
    corrections = CorrectionConfig(importance="truncated", high=1.1)
    loss, grad = evaluate(made, OBJECTIVES[name](), corrections=corrections)
    weight = made.mask * made.z.exp().clamp(max=1.1) * made.advantages[:, None] / made.mask.any(1).sum()
    torch.testing.assert_close(loss, -(weight * (made.behaviour + made.z)).sum(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grad, -weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"rloo", "reinforce"}))
def test_correcting_twice_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^proximal_logprobs:"):
        evaluate(batch(seed=3), OBJECTIVES[name](), corrections=CorrectionConfig(importance="truncated"))


@MODEST
@given(seed=SEEDS, name=NAMES)
def test_rejected_sequences_have_no_gradient_and_leave_the_others_alone(seed: int, name: str) -> None:
    """By the geometric mean of policy/behaviour; denominators keep counting them."""
    made = batch(seed, sequences=9, spread=0.3)
    s = torch.exp((made.z * made.mask).sum(1) / made.mask.sum(1).clamp(min=1))
    rejected = made.mask.any(1) & ((s < 0.9) | (s > 1.1))
    config = OBJECTIVES[name]()
    _, plain = evaluate(made, config)
    _, grad = evaluate(made, config, corrections=CorrectionConfig(rejection_low=0.9, rejection_high=1.1))
    torch.testing.assert_close(grad, torch.where(rejected[:, None], 0.0, plain), rtol=1e-12, atol=1e-14)


def test_rejection_looks_at_the_proximal_policy_where_there_is_one() -> None:
    made = batch(seed=4, sequences=9)
    log_w, proximal = shifted(made)
    s = torch.exp((log_w * made.mask).sum(1) / made.mask.sum(1).clamp(min=1))
    _, plain = evaluate(made, SSPOConfig(), proximal_logprobs=proximal)
    for bounds, gone in (({"rejection_low": 1.0}, s < 1.0), ({"rejection_high": 1.0}, s > 1.0)):
        _, grad = evaluate(made, SSPOConfig(), proximal_logprobs=proximal, corrections=CorrectionConfig(**bounds))
        torch.testing.assert_close(grad, torch.where(gone[:, None], 0.0, plain), rtol=1e-12, atol=1e-14)


def test_vespo_takes_the_correction_into_its_ratio() -> None:
    """W is against the behaviour policy, and proximal/behaviour is not applied a second time."""
    made = batch(seed=5, sequences=9)
    log_w, proximal = shifted(made)
    config = VESPOConfig()
    same(evaluate(made, config, proximal_logprobs=proximal), evaluate(made, config))
    truncated = CorrectionConfig(importance="truncated", high=1.1)
    moved = Batch(made.z - log_w + log_w.clamp(max=math.log(1.1)), made.behaviour, made.mask, made.advantages)
    _, grad = evaluate(made, config, proximal_logprobs=proximal, corrections=truncated)
    torch.testing.assert_close(grad, evaluate(moved, config)[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("name", ["sspo", "dapo", "gspo", "reinforce"])
def test_penalties_against_a_reference(name: str, estimator: str) -> None:
    """Value and slope of each estimator, under the aggregation of its objective."""
    made = batch(seed=6, sequences=9)
    config = OBJECTIVES[name](kl_coefficient=0.07, kl_estimator=estimator)
    policy = made.behaviour + made.z
    reference = policy + 0.4 * torch.sin(9.0 * made.behaviour)
    d = reference - policy
    value = {"k1": -d, "k2": d**2 / 2, "k3": d.exp() - d - 1}[estimator]
    slope = {"k1": torch.ones_like(d), "k2": -d, "k3": 1 - d.exp()}[estimator]
    lengths, sequences = made.mask.sum(1, keepdim=True).clamp(min=1), made.mask.any(1).sum()
    divisor = {"dapo": made.mask.sum(), "reinforce": sequences}.get(name, lengths * sequences)
    share = 0.07 * made.mask.double() / divisor
    loss, grad = evaluate(made, config, reference_logprobs=reference)
    plain, plain_grad = evaluate(made, OBJECTIVES[name]())
    torch.testing.assert_close(loss - plain, (share * value).sum(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(grad - plain_grad, share * slope, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"^reference_logprobs:"):
        evaluate(made, config)


@MODEST
@given(seed=SEEDS, spread=st.floats(1e-3, 3.0))
def test_k2_and_k3_are_never_negative(seed: int, spread: float) -> None:
    made = batch(seed, spread=spread)
    inputs = LossInputs(
        made.behaviour + made.z, made.behaviour, made.advantages, made.mask, reference_logprobs=made.behaviour
    )
    figures = RatioDiagnostics(policy_loss(inputs, GRPOConfig()).metrics).figures()
    assert figures["kl_reference_k2"] >= 0 and figures["kl_reference_k3"] >= 0
    z = [value for row in made.rows for value in row]
    assert figures["kl_reference_k1"] == pytest.approx(statistics.fmean(z), rel=1e-9, abs=1e-12)


def test_figures_of_the_corrections() -> None:
    made = batch(seed=8, sequences=12)
    log_w, proximal = shifted(made)
    corrections = CorrectionConfig(importance="truncated", low=0.9, high=1.2, rejection_high=1.05)
    inputs = LossInputs(made.behaviour + made.z, made.behaviour, made.advantages, made.mask, proximal_logprobs=proximal)
    figures = RatioDiagnostics(policy_loss(inputs, GRPOConfig(), corrections).metrics).figures()
    raw = log_w[made.mask].exp()
    w = raw.clamp(0.9, 1.2)
    s = torch.exp((log_w * made.mask).sum(1) / made.mask.sum(1).clamp(min=1))[made.mask.any(1)]
    expected = {
        "correction_mean": w.mean(),
        "correction_min": w.min(),
        "correction_max": w.max(),
        "correction_ess": w.mean() ** 2 / (w**2).mean(),
        "correction_altered_ratio": ((raw < 0.9) | (raw > 1.2)).double().mean(),
        "rejected_sequence_ratio": (s > 1.05).double().mean(),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-9
    )
    assert 0 < figures["rejected_sequence_ratio"] < 1 and 0 < figures["correction_altered_ratio"] < 1
    plain = RatioDiagnostics(policy_loss(inputs, GRPOConfig()).metrics).figures()
    assert "rejected_sequence_ratio" not in plain and plain["correction_altered_ratio"] == 0
    bare = LossInputs(made.behaviour + made.z, made.behaviour, made.advantages, made.mask)
    assert not any(
        name.startswith("correction") for name in RatioDiagnostics(policy_loss(bare, RLOOConfig()).metrics).figures()
    )


@MODEST
@given(seed=SEEDS, spread=st.sampled_from([0.0, 0.05, 0.5, 2.0]))
def test_effective_sample_size_is_1_only_for_equal_weights(seed: int, spread: float) -> None:
    made = batch(seed)
    _, proximal = shifted(made, seed, spread)
    inputs = LossInputs(made.behaviour + made.z, made.behaviour, made.advantages, made.mask, proximal_logprobs=proximal)
    figures = RatioDiagnostics(policy_loss(inputs, GRPOConfig()).metrics).figures()
    assert 1 / figures["tokens"] - 1e-12 <= figures["correction_ess"] <= 1 + 1e-12
    assert (figures["correction_ess"] > 1 - 1e-9) == (spread == 0.0)


@pytest.mark.parametrize(
    ("named", "fields"),
    [
        ("importance", {"importance": "clipped"}),
        ("level", {"level": "turn"}),
        ("low", {"low": -0.1}),
        ("high", {"low": 2.0, "high": 2.0}),
        ("rejection_low", {"rejection_low": float("nan")}),
        ("rejection_high", {"rejection_low": 1.0, "rejection_high": 0.5}),
    ],
)
def test_refusals_name_their_field(named: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{named}:"):
        CorrectionConfig(**fields)

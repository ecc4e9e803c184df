"""Figures of importance ratios against plain Python over the list of tokens."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sspo_core.config import GMPOConfig, GRPOConfig, GSPOConfig, SAPOConfig, SSPOConfig
from sspo_core.diagnostics.figures import HISTOGRAMS, LARGEST, LOG_RATIO_BUCKETS, RATIO_BUCKETS, SMALLEST, SUMS
from sspo_core.diagnostics.ratio_diagnostics import RatioDiagnostics
from sspo_core.losses import policy_loss
from sspo_core.types import LossInputs, LossOutputs
from tests.unit.sspo_core.batches import MODEST, Batch, batch

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def measured(made: Batch) -> RatioDiagnostics:
    diagnostics = RatioDiagnostics()
    diagnostics.add(made.z, made.mask)
    return diagnostics


def outputs_of(made: Batch, config: object, **more: torch.Tensor) -> LossOutputs:
    return policy_loss(LossInputs(made.behaviour + made.z, made.behaviour, made.advantages, made.mask, **more), config)


def figures_of(made: Batch, config: object, **more: torch.Tensor) -> dict[str, float]:
    return RatioDiagnostics(outputs_of(made, config, **more).metrics).figures()


def test_ratio_figures_are_those_of_plain_python() -> None:
    made = batch(seed=1, sequences=9)
    z = flat(made.rows)
    r = [math.exp(value) for value in z]
    s = [math.exp(statistics.fmean(row)) for row in made.rows if row]
    products = [math.exp(sum(row)) for row in made.rows if row]
    expected = {
        "tokens": len(z),
        "sequences": len(s),
        "empty_sequences": 1,
        "nonfinite_tokens": 0,
        "clamped_tokens": 0,
        "ratio_mean": statistics.fmean(r),
        "ratio_std": statistics.pstdev(r),
        "ratio_min": min(r),
        "ratio_max": max(r),
        "log_ratio_abs_max": max(abs(value) for value in z),
        "outside_band_ratio": sum(value < 0.9 or value > 1.1 for value in r) / len(r),
        "kl_k1": -statistics.fmean(z),
        "kl_k2": statistics.fmean(value**2 for value in z) / 2,
        "kl_k3": statistics.fmean(math.exp(value) - value - 1 for value in z),
        "ess_token": sum(r) ** 2 / sum(value**2 for value in r) / len(r),
        "ess_sequence": sum(s) ** 2 / sum(value**2 for value in s) / len(s),
        "chi2_token": statistics.fmean(value**2 for value in r) - 1,
        "chi2_sequence": statistics.fmean(value**2 for value in products) - 1,
        "sequence_ratio_mean": statistics.fmean(s),
        "sequence_ratio_min": min(s),
        "sequence_ratio_max": max(s),
        "log_product_mean": statistics.fmean(math.log(w) for w in products),
        "log_product_min": math.log(min(products)),
        "log_product_max": math.log(max(products)),
        "log_perplexity_difference": -statistics.fmean(math.log(value) for value in s),
        "log_perplexity_difference_abs": statistics.fmean(abs(math.log(value)) for value in s),
    }
    figures = measured(made).figures()
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    quantiles = {f"{name}_{q}" for name in ("log_ratio_abs", "ratio", "sequence_ratio") for q in QUANTILES}
    assert set(figures) - set(expected) == quantiles


def test_histograms_are_counts_with_inclusive_upper_edges() -> None:
    r = torch.tensor([[0.4, 0.5, 0.81, 1.0, 1.0, 1.03, 7.0, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, True, True, True, True, False]])
    diagnostics = RatioDiagnostics()
    diagnostics.add(r.log(), mask)
    counts = diagnostics.histograms()["ratio_histogram"]
    assert len(counts) == len(RATIO_BUCKETS) + 1 and sum(counts) == 7
    at = {edge: counts[index] for index, edge in enumerate((*RATIO_BUCKETS, math.inf)) if counts[index]}
    assert at == {0.5: 2, 0.9: 1, 1.0: 2, 1.05: 1, math.inf: 1}
    assert sum(diagnostics.histograms()["sequence_ratio_histogram"]) == 1


@pytest.mark.parametrize("shift", [0.3, -3.5])
@pytest.mark.parametrize("spread", [1e-5, 0.02, 0.5])
def test_quantiles_are_within_their_bucket(spread: float, shift: float) -> None:
    made = batch(seed=2, sequences=200, tokens=60, spread=spread)
    made = Batch(made.z + shift * spread, made.behaviour, made.mask, made.advantages)
    figures = measured(made).figures()
    z = torch.tensor(flat(made.rows), dtype=torch.float64)
    s = torch.tensor([statistics.fmean(row) for row in made.rows if row], dtype=torch.float64)
    for name, q in QUANTILES.items():
        assert figures[f"log_ratio_abs_{name}"] == pytest.approx(float(z.abs().quantile(q)), rel=0.075)
        assert math.log(figures[f"ratio_{name}"]) == pytest.approx(float(z.quantile(q)), rel=0.075)
        # a quantile of 200 sequences lies between two of them
        low, high = (float(s.quantile(q, interpolation=side)) for side in ("lower", "higher"))
        slack = 0.075 * max(abs(low), abs(high))
        assert low - slack <= math.log(figures[f"sequence_ratio_{name}"]) <= high + slack
    assert LOG_RATIO_BUCKETS[1] / LOG_RATIO_BUCKETS[0] < 1.075


def test_quantiles_interpolate_in_their_bucket() -> None:
    z = torch.linspace(0.0, 1.0, 10_001, dtype=torch.float64)[None]
    diagnostics = RatioDiagnostics()
    diagnostics.add(z, torch.ones_like(z))
    figures = diagnostics.figures()
    assert [figures[f"log_ratio_abs_{q}"] for q in ("p50", "p95", "p99")] == pytest.approx([0.5, 0.95, 0.99], rel=1e-3)


def test_on_policy_figures_are_exact() -> None:
    figures = figures_of(batch(seed=3, spread=0.0), SSPOConfig())
    zero = (
        "ratio_std",
        "outside_band_ratio",
        "kl_k1",
        "kl_k2",
        "kl_k3",
        "chi2_token",
        "chi2_sequence",
        "clip_fraction",
    )
    one = ("ratio_mean", "ess_token", "ess_sequence", "gate_mean", "gate_weight_mean", "effective_update_ratio")
    assert all(figures[name] == 0.0 for name in (*zero, "log_ratio_abs_p999", "gate_saturated_ratio"))
    assert [figures[name] for name in one] == pytest.approx([1.0] * len(one), abs=1e-15)


def test_small_mismatch_survives_the_sums() -> None:
    """z of 1e-7 gives a k3 of 5e-15, which float32 would lose."""
    z = torch.full((4, 1000), 1e-7, dtype=torch.float32)
    diagnostics = RatioDiagnostics()
    diagnostics.add(z, torch.ones_like(z))
    figures = diagnostics.figures()
    assert figures["kl_k3"] == pytest.approx(5e-15, rel=0.02)
    assert figures["kl_k1"] == pytest.approx(-1e-7, rel=1e-6)


@MODEST
@given(seed=st.integers(0, 2**20), spread=st.floats(1e-6, 3.0))
def test_ranges(seed: int, spread: float) -> None:
    made = batch(seed, spread=spread)
    figures = measured(made).figures()
    assert figures["kl_k2"] >= 0 and figures["kl_k3"] >= 0
    assert 1 / figures["tokens"] - 1e-12 <= figures["ess_token"] <= 1 + 1e-12
    assert 1 / figures["sequences"] - 1e-12 <= figures["ess_sequence"] <= 1 + 1e-12
    assert figures["ratio_min"] <= figures["ratio_mean"] <= figures["ratio_max"]
    ordered = [figures[f"log_ratio_abs_{name}"] for name in ("p50", "p95", "p99", "p999", "max")]
    assert ordered == sorted(ordered)


@MODEST
@given(seed=st.integers(0, 2**20), cut=st.integers(1, 8))
def test_merging_is_adding(seed: int, cut: int) -> None:
    made = batch(seed, sequences=9)
    whole = RatioDiagnostics(outputs_of(made, SSPOConfig()).metrics)
    merged = RatioDiagnostics()
    for part in made.cut_at(cut):
        merged.merge(RatioDiagnostics(outputs_of(part, SSPOConfig()).metrics))
    assert merged.figures() == pytest.approx(whole.figures(), rel=1e-12, abs=1e-12)
    assert merged.histograms() == whole.histograms()


def test_merging_leaves_the_other_alone() -> None:
    metrics = outputs_of(batch(seed=4), SSPOConfig()).metrics
    before = float(metrics["tokens"])
    merged = RatioDiagnostics(metrics)
    merged.merge(RatioDiagnostics(metrics))
    assert float(metrics["tokens"]) == before and merged.figures()["tokens"] == 2 * before


def test_garbage_outside_the_mask_and_non_finite_tokens() -> None:
    z = torch.tensor([[0.1, float("nan"), float("inf")], [float("nan")] * 3])
    mask = torch.tensor([[True, False, True], [False] * 3])
    diagnostics = RatioDiagnostics()
    diagnostics.add(z, mask)
    figures = diagnostics.figures()
    assert (figures["tokens"], figures["nonfinite_tokens"], figures["empty_sequences"]) == (1, 1, 1)
    assert all(math.isfinite(value) for value in figures.values())


def test_figures_of_nothing_are_left_out() -> None:
    assert RatioDiagnostics().figures() == {}
    made = batch(seed=5)
    nothing = Batch(made.z, made.behaviour, torch.zeros_like(made.mask), made.advantages)
    assert set(figures_of(nothing, SSPOConfig())) == {
        "tokens",
        "sequences",
        "empty_sequences",
        "nonfinite_tokens",
        "clamped_tokens",
    }
    assert "gate_weight_mean_negative" not in figures_of(
        Batch(made.z, made.behaviour, made.mask, made.advantages.abs()), SSPOConfig()
    )


def test_gate_figures_of_sspo() -> None:
    made = batch(seed=6, sequences=9)
    figures = figures_of(made, SSPOConfig(tau_pos=4.0, tau_neg=6.0))
    gates, weights, saturated = [], {1.0: [], -1.0: [], 0.0: []}, 0
    for row, advantage in zip(made.rows, made.advantages.tolist(), strict=True):
        if not row:
            continue
        tau = 4.0 if advantage > 0 else 6.0
        gates.append(math.exp(statistics.fmean(math.atan(tau * z) / tau for z in row)))
        h = [1 / (1 + tau**2 * z**2) for z in row]
        weights[float((advantage > 0) - (advantage < 0))].extend(gates[-1] * value for value in h)
        saturated += sum(value < 0.1 for value in h)
    every = [value for part in weights.values() for value in part]
    expected = {
        "gate_mean": statistics.fmean(gates),
        "gate_min": min(gates),
        "gate_max": max(gates),
        "gate_weight_mean": statistics.fmean(every),
        "gate_weight_mean_positive": statistics.fmean(weights[1.0]),
        "gate_weight_mean_negative": statistics.fmean(weights[-1.0]),
        "effective_update_ratio": statistics.fmean(every),
        "gate_saturated_ratio": saturated / len(every),
        "clip_fraction": 0.0,
    }
    assert saturated > 0
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_effective_update_ratio_of_the_arithmetic_mean_is_the_mean_slope() -> None:
    """f'(r) = sech²(τ(r − 1)/2) for SAPO, and one minus the clip fraction for GRPO."""
    made = batch(seed=7, sequences=9)
    figures = figures_of(made, SAPOConfig(tau_pos=5.0, tau_neg=5.0))
    slopes = [1 / math.cosh(2.5 * (math.exp(z) - 1)) ** 2 for z in flat(made.rows)]
    assert figures["effective_update_ratio"] == pytest.approx(statistics.fmean(slopes), rel=1e-9)
    weights = [math.exp(z) * slope for z, slope in zip(flat(made.rows), slopes, strict=True)]
    assert figures["gate_weight_mean"] == pytest.approx(statistics.fmean(weights), rel=1e-9)
    grpo = figures_of(made, GRPOConfig())
    assert grpo["clip_fraction"] > 0
    assert grpo["effective_update_ratio"] == pytest.approx(1 - grpo["clip_fraction"], rel=1e-12)


def test_clip_fractions_count_active_clips() -> None:
    """A > 0 is clipped above, A < 0 below, and neither on the other side."""
    z = torch.tensor([[0.6, -0.6, 0.1, 0.9], [0.6, -0.6, 0.1, 0.9]], dtype=torch.float64)
    made = Batch(z, torch.zeros_like(z), torch.ones_like(z, dtype=torch.bool), torch.tensor([1.0, -1.0]).double())
    for config in (GRPOConfig(), GMPOConfig()):
        figures = figures_of(made, config)
        assert figures["clip_fraction"] == pytest.approx(3 / 8)
        assert figures["clip_fraction_high"] == pytest.approx(2 / 8)
        assert figures["clip_fraction_low"] == pytest.approx(1 / 8)
    assert figures_of(made, GSPOConfig())["clip_fraction"] == pytest.approx(1 / 2)


def test_gate_weight_is_what_the_gradient_says() -> None:
    """k/A from the figures equals k/A read off autograd, the correction of a proximal policy included."""
    made = batch(seed=8, sequences=9)
    signs = torch.where(made.advantages < 0, -1.0, 1.0).double()
    made = Batch(made.z, made.behaviour, made.mask, signs)
    proximal = made.behaviour + 0.2 * made.z.cos()
    for config in (SSPOConfig(), SAPOConfig(), GRPOConfig(), GMPOConfig(), GSPOConfig(clip_low=0.1, clip_high=0.1)):
        policy = (made.behaviour + made.z).requires_grad_()
        outputs = policy_loss(
            LossInputs(policy, made.behaviour, made.advantages, made.mask, proximal_logprobs=proximal), config
        )
        outputs.loss.backward()
        assert policy.grad is not None
        share = made.mask.sum(1, keepdim=True).clamp(min=1) * made.mask.any(1).sum()
        k = -policy.grad * share / made.advantages[:, None]
        figures = RatioDiagnostics(outputs.metrics).figures()
        assert figures["gate_weight_mean"] == pytest.approx(float(k[made.mask].mean()), rel=1e-9)


def test_reference_penalty_is_shown() -> None:
    made = batch(seed=9)
    reference = made.behaviour + 0.1
    figures = figures_of(made, GRPOConfig(kl_coefficient=0.1), reference_logprobs=reference)
    d = [0.1 - z for z in flat(made.rows)]
    assert figures["kl_reference_k3"] == pytest.approx(statistics.fmean(math.exp(x) - x - 1 for x in d), rel=1e-9)


def test_entropy_is_counted_where_it_is_given() -> None:
    made = batch(seed=10)
    entropy = torch.where(made.mask, -made.behaviour, float("nan"))
    first = tuple(made.mask.nonzero()[0])
    entropy[first] = float("inf")
    figures = figures_of(made, SSPOConfig(), entropy=entropy)
    kept = made.mask.clone()
    kept[first] = False
    assert figures["entropy_mean"] == pytest.approx(float(-made.behaviour[kept].mean()), rel=1e-12)
    assert "entropy_mean" not in figures_of(made, SSPOConfig())


def drawn(sampled: torch.Tensor, policy: torch.Tensor, answered: torch.Tensor, count: int = 4096) -> dict[str, float]:
    """Figures under `policy` of [count / 4, 4] tokens drawn from `sampled`; `answered` came with them: all [V]."""
    tokens = torch.multinomial(sampled.exp(), count, replacement=True, generator=torch.Generator().manual_seed(1))
    shape = (count // 4, 4)
    entropy = -(policy.exp() * policy).sum().expand(shape)
    inputs = LossInputs(
        policy_logprobs=policy[tokens].reshape(shape),
        behaviour_logprobs=answered[tokens].reshape(shape),
        advantages=torch.ones(shape[0], dtype=torch.float64),
        mask=torch.ones(shape, dtype=torch.bool),
        entropy=entropy,
    )
    return RatioDiagnostics(policy_loss(inputs, GRPOConfig()).metrics).figures()


def test_surprise_is_that_of_plain_python() -> None:
    policy = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).log_softmax(-1)
    behaviour = (policy / 0.7).log_softmax(-1)
    figures = drawn(behaviour, policy, behaviour)
    tokens = torch.multinomial(behaviour.exp(), 4096, replacement=True, generator=torch.Generator().manual_seed(1))
    d = (-policy[tokens] + (policy.exp() * policy).sum()).tolist()
    z = (policy - behaviour)[tokens].tolist()
    line = statistics.linear_regression(d, z)
    expected = {
        "surprise_excess": statistics.fmean(d),
        "surprise_excess_error": statistics.pstdev(d) / math.sqrt(len(d)),
        "surprise_slope": line.slope,
        "surprise_correlation": statistics.correlation(d, z),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert 1.0 / (1.0 + figures["surprise_slope"]) == pytest.approx(0.7, rel=1e-9), "the temperature that sampled"


@pytest.mark.parametrize(("temperature", "sign"), [(1.0, 0), (0.7, -1), (1.4, 1)])
def test_samples_of_another_temperature_surprise_too_little_or_too_much(temperature: float, sign: int) -> None:
    policy = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    figures = drawn((policy / temperature).log_softmax(-1), policy, answered=policy)
    errors = figures["surprise_excess"] / figures["surprise_excess_error"]
    assert abs(errors) < 3 if sign == 0 else errors * sign > 5, "although the log-probs answered are the policy's own"


def test_a_truncation_surprises_too_little_and_its_ratios_lie_on_one_side() -> None:
    policy = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).log_softmax(-1)
    kept = policy.masked_fill(policy < policy.topk(8).values[-1], -math.inf).log_softmax(-1)
    figures = drawn(kept, policy, kept)
    assert figures["surprise_excess"] < -5 * figures["surprise_excess_error"]
    mass = policy.topk(8).values.exp().sum()
    assert figures["ratio_max"] == pytest.approx(float(mass)) and figures["kl_k1"] == pytest.approx(-math.log(mass))


def test_state_is_a_mapping_of_tensors() -> None:
    state = outputs_of(batch(seed=11), GRPOConfig()).metrics
    assert set(state) == {*SUMS, *SMALLEST, *LARGEST, *HISTOGRAMS} and len(state) == len(list(state))
    assert all(isinstance(value, torch.Tensor) and value.dtype == torch.float64 for value in state.values())
    assert float(state["tokens"]) == float(state["log_ratio_histogram"].sum())
    with pytest.raises(KeyError):
        _ = state["no_such_name"]


def test_state_from_some_names_counts_nothing_else() -> None:
    diagnostics = RatioDiagnostics({"entropy": torch.tensor(6.0), "entropy_tokens": torch.tensor(4)})
    assert diagnostics.figures() == {
        "tokens": 0.0,
        "sequences": 0.0,
        "empty_sequences": 0.0,
        "nonfinite_tokens": 0.0,
        "clamped_tokens": 0.0,
        "entropy_mean": 1.5,
    }


@MODEST
@given(seed=st.integers(0, 2**20), order=st.permutations([0, 1, 2, 3]))
def test_merging_in_any_order_gives_the_same_counts(seed: int, order: list[int]) -> None:
    """Counts, extremes and histograms to the bit; sums of real numbers to their last digits."""
    made = batch(seed, sequences=8, spread=0.8)
    parts = [Batch(*(x[i : i + 2] for x in (made.z, made.behaviour, made.mask, made.advantages))) for i in (0, 2, 4, 6)]
    states = [outputs_of(part, GRPOConfig()).metrics for part in parts]
    forwards, shuffled = RatioDiagnostics(), RatioDiagnostics()
    for index in range(4):
        forwards.merge(RatioDiagnostics(states[index]))
        shuffled.merge(RatioDiagnostics(states[order[index]]))
    assert forwards.state is not None and shuffled.state is not None
    for name in (*SMALLEST, *LARGEST, *HISTOGRAMS, *(name for name in SUMS if name.endswith(("tokens", "sequences")))):
        assert torch.equal(forwards.state[name], shuffled.state[name]), name
    assert shuffled.figures() == pytest.approx(forwards.figures(), rel=1e-12, abs=1e-12)


def test_reading_waits_for_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    diagnostics = RatioDiagnostics(outputs_of(batch(seed=12), SSPOConfig()).metrics)
    reads = []
    plain = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(1) or plain(tensor))
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: pytest.fail("read one by one"))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda tensor: pytest.fail("read one by one"))
    assert diagnostics.figures()["tokens"] > 0 and len(reads) == 1

"""Gates: log f and h against plain formulas, finite differences, and published weights."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sspo_core.config import GATES_OFF_ONE, GatedConfig, GateName, SAPOConfig, SSPOConfig
from sspo_core.objectives.gates import GATES
from sspo_core.objectives.trust_regions import SoftGate
from tests.unit.sspo_core import oracle
from tests.unit.sspo_core.batches import MODEST

NAMES = get_args(GateName)
SOFT = [name for name in NAMES if name not in ("identity", "clip")]
POSITIVE = torch.tensor([[True], [False]])


def config(gate: GateName, tau: float, **more: object) -> GatedConfig:
    return SSPOConfig(gate=gate, tau_pos=tau, tau_neg=tau * 1.2, **more)


def both_signs(z: list[float], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    values = torch.tensor([z, z], dtype=dtype)
    return values, POSITIVE.expand_as(values)


def test_registry_is_the_list_of_names() -> None:
    assert set(GATES) == set(NAMES)


@pytest.mark.parametrize("tau", [1.7, 3.0, 10.0])
@pytest.mark.parametrize("name", NAMES)
def test_log_f_and_h_are_the_plain_formulas(name: GateName, tau: float) -> None:
    chosen = config(name, tau, alpha=3.0, centre=1.3)
    grid = [-1.5, -0.7, -0.2, -0.01, 0.0, 0.01, 0.2, 0.7, 1.5]
    z, positive = both_signs(grid)
    region = SoftGate(chosen)
    for row, advantage in enumerate((1.0, -1.0)):
        plain_f = [math.log(oracle.gate(chosen, value, advantage)) for value in grid]
        plain_h = [oracle.gate_weight(chosen, value, advantage) for value in grid]
        assert region.log_f(z, positive)[row].tolist() == pytest.approx(plain_f, abs=1e-11)
        assert region.h(z, positive)[row].tolist() == pytest.approx(plain_h, abs=1e-11)


@pytest.mark.parametrize(
    ("name", "sides"),
    [(name, "both") for name in NAMES] + [(name, "outward") for name in NAMES if name not in GATES_OFF_ONE],
)
def test_h_is_the_derivative_of_log_f(name: GateName, sides: str) -> None:
    region = SoftGate(config(name, 4.0, sides=sides))
    z, positive = both_signs([-2.1, -0.55, -0.31, -0.052, 0.047, 0.23, 0.61, 1.3])
    step = 1e-5
    numeric = (region.log_f(z + step, positive) - region.log_f(z - step, positive)) / (2 * step)
    torch.testing.assert_close(region.h(z, positive), numeric, rtol=1e-7, atol=1e-8)
    leaf = z.clone().requires_grad_()
    (automatic,) = torch.autograd.grad(region.log_f(leaf, positive).sum(), leaf)
    torch.testing.assert_close(region.h(z, positive), automatic, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("tau", [2.0, 3.0, 10.0])
@pytest.mark.parametrize("name", NAMES)
def test_value_and_slope_at_one(name: GateName, tau: float) -> None:
    """f'(1) = f(1)·h(1) = 1 for every gate, the shifted sigmoid through its own scale; f(1) = 1 for most."""
    region = SoftGate(config(name, tau, alpha=7.0, centre=0.7))
    z, positive = both_signs([0.0])
    f = region.log_f(z, positive).exp()
    torch.testing.assert_close(f * region.h(z, positive), torch.ones_like(f), rtol=1e-12, atol=0)
    if name == "sigmoid_raw":
        torch.testing.assert_close(f[:, 0], torch.tensor([2 / tau, 2 / (1.2 * tau)], dtype=torch.float64))
    elif name not in GATES_OFF_ONE:
        torch.testing.assert_close(f, torch.ones_like(f), rtol=1e-12, atol=0)


def test_shifted_sigmoid_centred_at_one_is_the_raw_one() -> None:
    z, positive = both_signs([-1.0, -0.1, 0.0, 0.1, 1.0])
    shifted = SoftGate(SSPOConfig(gate="sigmoid_shifted", alpha=6.0, centre=1.0))
    raw = SoftGate(SSPOConfig(gate="sigmoid_raw", tau_pos=6.0, tau_neg=6.0))
    torch.testing.assert_close(shifted.log_f(z, positive), raw.log_f(z, positive), rtol=1e-12, atol=1e-12)


OUTLIERS = [0.05, 0.2, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 2, 5]
OUTLIER_WEIGHTS = [
    ("sigmoid_raw", 1, [0.072, 0.276, 0.622, 0.880, 0.945, 1, 1.045, 1.095, 1.076, 0.180]),
    ("sigmoid_raw", 10, [0.099, 0.397, 0.989, 1.407, 1.315, 1, 0.592, 0.190, 0, 0]),
    ("sigmoid_norm", 10, [0, 0, 0.017, 0.396, 0.780, 1, 0.792, 0.300, 0, 0]),
    ("arctan", 10, [0.001, 0.004, 0.022, 0.180, 0.488, 1, 0.510, 0.154, 0.017, 0.003]),
    ("logarctan_a", 1, [0.100, 0.278, 0.675, 0.952, 0.989, 1, 0.991, 0.953, 0.676, 0.279]),
    ("logarctan_a", 10, [0.001, 0.004, 0.020, 0.167, 0.474, 1, 0.524, 0.167, 0.020, 0.004]),
]


@pytest.mark.parametrize(("name", "tau", "expected"), OUTLIER_WEIGHTS)
def test_weight_of_one_outlier_among_a_thousand(name: GateName, tau: float, expected: list[float]) -> None:
    """k/A of a token at r while 999 others are at 1: the table that shows how the gates differ."""
    region = SoftGate(SSPOConfig(gate=name, tau_pos=tau, tau_neg=tau))
    z = torch.tensor([OUTLIERS], dtype=torch.float64).log()
    ones = torch.ones_like(z, dtype=torch.bool)
    log_f, at_one = region.log_f(z, ones), region.log_f(torch.zeros_like(z), ones)
    weight = torch.exp((log_f + 999 * at_one) / 1000) * region.h(z, ones)
    assert weight[0].tolist() == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (1, [0.040, 0.171, 0.470, 0.792, 0.898, 1, 1.097, 1.231, 1.573, 0.353]),
        (10, [0, 0, 0.013, 0.336, 0.708, 1, 0.865, 0.351, 0, 0]),
    ],
)
def test_weight_of_one_outlier_under_the_arithmetic_mean(tau: float, expected: list[float]) -> None:
    region = SoftGate(SAPOConfig(tau_pos=tau, tau_neg=tau))
    z = torch.tensor([OUTLIERS], dtype=torch.float64).log()
    ones = torch.ones_like(z, dtype=torch.bool)
    weight = region.log_f(z, ones).exp() * region.h(z, ones)
    assert weight[0].tolist() == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_finite_over_the_whole_range(name: GateName, dtype: torch.dtype) -> None:
    """Every gate, its gradient and h at the clamp of z, for temperatures from one end of the range to the other."""
    lowest = math.pi / 2 + 1e-6 if name == "logarctan_b" else 1e-9
    for tau in (lowest, 1e-4, 0.03, 1.0, 30.0, 1e4, 8e8):
        region = SoftGate(config(name, max(tau, lowest)))
        z, positive = both_signs([-20.0, -16.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 16.0, 20.0], dtype)
        leaf = z.clone().requires_grad_()
        log_f = region.log_f(leaf, positive)
        (grad,) = torch.autograd.grad(log_f.sum(), leaf)
        for tensor in (log_f, grad, region.h(z, positive)):
            assert torch.isfinite(tensor).all(), (tau, tensor)


@MODEST
@given(
    name=st.sampled_from(SOFT),
    tau=st.floats(1.7, 40.0),
    low=st.floats(-6.0, 6.0),
    gap=st.floats(0.0, 6.0),
)
def test_gates_increase_and_stay_positive(name: GateName, tau: float, low: float, gap: float) -> None:
    z, positive = both_signs([low, low + gap])
    log_f = SoftGate(config(name, tau)).log_f(z, positive)
    assert torch.isfinite(log_f).all()
    assert torch.all(log_f[:, 1] >= log_f[:, 0] - 1e-12)


@MODEST
@given(tau=st.floats(1e-2, 1e3), z=st.floats(-20.0, 20.0))
def test_bounds_of_the_weights(tau: float, z: float) -> None:
    """logarctan_a: S within exp(±π/2τ); sigmoid_raw: S between (4/τ)σ(−τ) and 4/τ."""
    values, positive = torch.tensor([[z]], dtype=torch.float64), torch.tensor([[True]])
    angle = SoftGate(config("logarctan_a", tau)).log_f(values, positive).abs().item()
    assert angle <= math.pi / (2 * tau) + 1e-12
    raw = SoftGate(config("sigmoid_raw", tau)).log_f(values, positive).item()
    lowest = math.log(4 / tau) - (tau + math.log1p(math.exp(-tau)))
    assert lowest - 1e-9 <= raw <= math.log(4 / tau) + 1e-12


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GATES_OFF_ONE])
def test_outward_has_no_jump(name: GateName) -> None:
    """At r = 1 both value and slope agree from the two sides."""
    region = SoftGate(config(name, 10.0, sides="outward"))
    z, positive = both_signs([-1e-7, 0.0, 1e-7])
    torch.testing.assert_close(region.log_f(z, positive), z, rtol=0, atol=1e-11)
    torch.testing.assert_close(region.h(z, positive), torch.ones_like(z), rtol=0, atol=5e-5)

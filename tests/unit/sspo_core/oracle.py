"""Objectives written a second time: float64, plain Python loops, the formulas as they stand in the papers.

Nothing here is log-domain, vectorised or taken from `sspo_core`. `rows` are lists of token log ratios z of unmasked
tokens; `advantages` one number per row, or one list per row. `gradient` differentiates any of these numerically.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sspo_core.config import GatedConfig, GMPOConfig, GRPOConfig, GSPOConfig

Rows = list[list[float]]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > 0 else math.exp(x) / (1.0 + math.exp(x))


def gate(config: GatedConfig, z: float, advantage: float) -> float:
    """f(r) of one token, the side included."""
    if config.sides == "outward" and not advantage * z > 0:
        return math.exp(z)
    r, tau = math.exp(z), config.tau_pos if advantage > 0 else config.tau_neg
    alpha, centre, c = config.alpha, config.centre, config.clip_log
    at_one = alpha * sigmoid(alpha * (1 - centre)) * sigmoid(-alpha * (1 - centre))
    values: dict[str, Callable[[], float]] = {
        "sigmoid_raw": lambda: 4 / tau * sigmoid(tau * (r - 1)),
        "sigmoid_norm": lambda: 1 - 2 / tau + 4 / tau * sigmoid(tau * (r - 1)),
        "sigmoid_shifted": lambda: sigmoid(alpha * (r - centre)) / at_one,
        "erf": lambda: 1 + math.sqrt(math.pi / 2) / tau * math.erf(tau * (r - 1) / math.sqrt(2)),
        "arctan": lambda: 1 + math.atan(tau * (r - 1)) / tau,
        "softsign": lambda: 1 + (r - 1) / math.sqrt(1 + tau**2 * (r - 1) ** 2),
        "logarctan_a": lambda: math.exp(math.atan(tau * z) / tau),
        "logarctan_b": lambda: 1 + math.atan(tau * z) / tau,
        "identity": lambda: r,
        "clip": lambda: math.exp(min(z, c) if advantage > 0 else max(z, -c)),
    }
    return values[config.gate]()


def gate_weight(config: GatedConfig, z: float, advantage: float) -> float:
    """h = r f'(r)/f(r) of one token, from the derivatives of the published formulas."""
    if config.sides == "outward" and not advantage * z > 0:
        return 1.0
    r, tau = math.exp(z), config.tau_pos if advantage > 0 else config.tau_neg
    alpha, centre, c = config.alpha, config.centre, config.clip_log
    x = tau * (r - 1)
    slopes: dict[str, Callable[[], float]] = {
        "sigmoid_raw": lambda: 4 * sigmoid(x) * sigmoid(-x),
        "sigmoid_norm": lambda: 4 * sigmoid(x) * sigmoid(-x),
        "erf": lambda: math.exp(-x * x / 2),
        "arctan": lambda: 1 / (1 + x * x),
        "softsign": lambda: (1 + x * x) ** -1.5,
        "logarctan_b": lambda: 1 / (r * (1 + tau**2 * z**2)),
        "identity": lambda: 1.0,
    }
    if config.gate == "logarctan_a":
        return 1 / (1 + tau**2 * z**2)
    if config.gate == "clip":
        return float(z <= c if advantage > 0 else z >= -c)
    if config.gate == "sigmoid_shifted":
        return alpha * r * (1 - sigmoid(alpha * (r - centre)))
    return r * slopes[config.gate]() / gate(config, z, advantage)


def sspo_loss(rows: Rows, advantages: list[float], config: GatedConfig) -> float:
    total, sequences = 0.0, 0
    for z_T, advantage in zip(rows, advantages, strict=True):
        if not z_T:
            continue
        sequences += 1
        product = 1.0
        for z in z_T:
            product *= gate(config, z, advantage)
        total += advantage * product ** (1 / len(z_T))
    return -total / max(sequences, 1)


def sspo_weights(rows: Rows, advantages: list[float], config: GatedConfig) -> Rows:
    """k_it = A_i · S_i · h_it."""
    weights = []
    for z_T, advantage in zip(rows, advantages, strict=True):
        product = 1.0
        for z in z_T:
            product *= gate(config, z, advantage)
        s = product ** (1 / len(z_T)) if z_T else 0.0
        weights.append([advantage * s * gate_weight(config, z, advantage) for z in z_T])
    return weights


def sspo_token_loss(rows: Rows, advantages: Rows, frozen: Rows, config: GatedConfig) -> float:
    """The form for an advantage per token: −mean_i (1/T_i) Σ_t A_it · S_i · log f_it, S_i from the `frozen` ratios."""
    total, sequences = 0.0, 0
    for z_T, a_T, frozen_T in zip(rows, advantages, frozen, strict=True):
        if not z_T:
            continue
        sequences += 1
        product = 1.0
        for z, advantage in zip(frozen_T, a_T, strict=True):
            product *= gate(config, z, advantage)
        s = product ** (1 / len(z_T))
        for z, advantage in zip(z_T, a_T, strict=True):
            total += advantage * s * math.log(gate(config, z, advantage)) / len(z_T)
    return -total / max(sequences, 1)


def grpo_loss(rows: Rows, advantages: list[float], config: GRPOConfig) -> float:
    total, sequences, tokens = 0.0, 0, 0
    for z_T, advantage in zip(rows, advantages, strict=True):
        subtotal = 0.0
        for z in z_T:
            r = math.exp(z)
            clipped = min(max(r, 1 - config.clip_low), 1 + config.clip_high)
            subtotal += min(r * advantage, clipped * advantage)
        sequences += bool(z_T)
        tokens += len(z_T)
        total += subtotal if config.aggregation == "token-mean" else subtotal / max(len(z_T), 1)
    return -total / max(tokens if config.aggregation == "token-mean" else sequences, 1)


def grpo_weights(rows: Rows, advantages: list[float], config: GRPOConfig) -> Rows:
    """k_it = A_i · r_it where the token is not clipped."""
    weights = []
    for z_T, advantage in zip(rows, advantages, strict=True):
        k_T = []
        for z in z_T:
            r = math.exp(z)
            kept = r <= 1 + config.clip_high if advantage >= 0 else r >= 1 - config.clip_low
            k_T.append(advantage * r if kept else 0.0)
        weights.append(k_T)
    return weights


def sapo_loss(rows: Rows, advantages: list[float], config: GatedConfig) -> float:
    total, sequences = 0.0, 0
    for z_T, advantage in zip(rows, advantages, strict=True):
        sequences += bool(z_T)
        for z in z_T:
            total += advantage * gate(config, z, advantage) / len(z_T)
    return -total / max(sequences, 1)


def gmpo_loss(rows: Rows, advantages: list[float], config: GMPOConfig) -> float:
    """As published: sgn(A)·(Π |min(sgn·z, sgn·clip(z))|)^(1/T) in log space."""
    total, sequences = 0.0, 0
    for z_T, advantage in zip(rows, advantages, strict=True):
        if not z_T:
            continue
        sequences += 1
        sign, log_mean = math.copysign(1.0, advantage), 0.0
        for z in z_T:
            clipped = min(max(z, -config.clip_log_low), config.clip_log_high)
            log_mean += sign * min(sign * z, sign * clipped) / len(z_T)
        total += advantage * math.exp(log_mean)
    return -total / max(sequences, 1)


def gspo_loss(rows: Rows, advantages: list[float], config: GSPOConfig) -> float:
    total, sequences = 0.0, 0
    for z_T, advantage in zip(rows, advantages, strict=True):
        if not z_T:
            continue
        sequences += 1
        s = math.exp(sum(z_T) / len(z_T))
        clipped = min(max(s, 1 - config.clip_low), 1 + config.clip_high)
        total += min(s * advantage, clipped * advantage)
    return -total / max(sequences, 1)


def gradient(loss: Callable[[Rows], float], rows: Rows, step: float = 2e-4) -> Rows:
    """d loss / d z by the five-point rule, error about step⁴."""

    def at(i: int, t: int, delta: float) -> float:
        moved = [list(z_T) for z_T in rows]
        moved[i][t] += delta
        return loss(moved)

    def derivative(i: int, t: int) -> float:
        near = at(i, t, step) - at(i, t, -step)
        far = at(i, t, 2 * step) - at(i, t, -2 * step)
        return (8 * near - far) / (12 * step)

    return [[derivative(i, t) for t in range(len(z_T))] for i, z_T in enumerate(rows)]

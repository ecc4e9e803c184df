"""Soft gates: each a pair (log f, h) of functions of the log ratio z, with r = exp(z).

    log f   what the geometric mean averages; its gradient is what trains
    h       d log f / dz = r f'(r) / f(r), the closed form that diagnostics read

SSPO is determined by these two. The gates are those of SAPO (arXiv 2511.20347), of the study of its gates (arXiv
2602.19345, equations 6 to 8), and two on the log ratio. z must already be clamped to ±20; then every gate and its
gradient is finite in float32 for every temperature that the config admits.

All gates but `sigmoid_shifted` have f'(1) = 1. That one is divided by its f'(1), so that the on-policy gradient is the
advantage under every gate, whatever its slope and centre (a constant factor of f changes neither its shape nor h).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sspo_core.config import GateName


@dataclass(frozen=True)
class GateParameters:
    """Inputs of a gate besides z; a gate reads the ones that it needs."""

    tau: Tensor
    """Temperature, broadcastable with z."""
    positive: Tensor
    """A > 0, boolean, broadcastable with z."""
    alpha: float
    centre: float
    clip_log: float


class Gate(NamedTuple):
    """A gate by its logarithm and its logarithmic derivative."""

    log_f: Callable[[Tensor, GateParameters], Tensor]
    h: Callable[[Tensor, GateParameters], Tensor]


def one_sided_clip(z: Tensor, positive: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """z cut to at most `high` where A > 0 and to at least `low` elsewhere, and whether it was inside (boolean).

    A token exactly on its bound is inside and keeps its whole gradient.
    """
    return (
        torch.where(positive, z.clamp(max=high), z.clamp(min=low)),
        torch.where(positive, z <= high, z >= low),
    )


def _log1p(x: Tensor) -> Tensor:
    # For a tiny τ the gate is nearly r, and 1 + x would round to 0 where r vanishes.
    return torch.log1p(x.clamp(min=-1.0 + torch.finfo(x.dtype).eps))


def _f(x: Tensor) -> Tensor:
    return 1.0 + x.clamp(min=-1.0 + torch.finfo(x.dtype).eps)


def _bell(y: Tensor) -> Tensor:
    """sech²(y/2), which is 1 − tanh²(y/2) without the cancellation."""
    return 4.0 * torch.sigmoid(y) * torch.sigmoid(-y)


# f − 1 of the gates that are 1 plus an odd function of r − 1 (of z for logarctan_b).


def _tanh(z: Tensor, p: GateParameters) -> Tensor:
    return 2.0 / p.tau * torch.tanh(p.tau * torch.expm1(z) / 2.0)


def _erf(z: Tensor, p: GateParameters) -> Tensor:
    return math.sqrt(math.pi / 2.0) / p.tau * torch.erf(p.tau * torch.expm1(z) / math.sqrt(2.0))


def _arctan(z: Tensor, p: GateParameters) -> Tensor:
    return torch.atan(p.tau * torch.expm1(z)) / p.tau


def _softsign(z: Tensor, p: GateParameters) -> Tensor:
    return torch.expm1(z) * torch.rsqrt(1.0 + (p.tau * torch.expm1(z)).square())


def _logarctan(z: Tensor, p: GateParameters) -> Tensor:
    return torch.atan(p.tau * z) / p.tau


# The logarithms that are not log1p(f − 1).


def _log_sigmoid_raw(z: Tensor, p: GateParameters) -> Tensor:
    return torch.log(4.0 / p.tau) + logsigmoid(p.tau * torch.expm1(z))


def _log_sigmoid_shifted(z: Tensor, p: GateParameters) -> Tensor:
    at_one = p.alpha * (1.0 - p.centre)
    # log f'(1) = log α + log σ(x) + log σ(−x), with log σ(x) = −log(1 + e^−x)
    log_slope = math.log(p.alpha) - math.log1p(math.exp(-at_one)) - math.log1p(math.exp(at_one))
    return logsigmoid(p.alpha * (z.exp() - p.centre)) - log_slope


GATES: dict[GateName, Gate] = {
    "sigmoid_raw": Gate(
        _log_sigmoid_raw,
        lambda z, p: p.tau * z.exp() * torch.sigmoid(-p.tau * torch.expm1(z)),
    ),
    "sigmoid_norm": Gate(
        lambda z, p: _log1p(_tanh(z, p)),
        lambda z, p: z.exp() * _bell(p.tau * torch.expm1(z)) / _f(_tanh(z, p)),
    ),
    "sigmoid_shifted": Gate(
        _log_sigmoid_shifted,
        lambda z, p: p.alpha * z.exp() * torch.sigmoid(-p.alpha * (z.exp() - p.centre)),
    ),
    "erf": Gate(
        lambda z, p: _log1p(_erf(z, p)),
        lambda z, p: z.exp() * torch.exp(-(p.tau * torch.expm1(z)).square() / 2.0) / _f(_erf(z, p)),
    ),
    "arctan": Gate(
        lambda z, p: _log1p(_arctan(z, p)),
        lambda z, p: z.exp() / ((1.0 + (p.tau * torch.expm1(z)).square()) * _f(_arctan(z, p))),
    ),
    "softsign": Gate(
        lambda z, p: _log1p(_softsign(z, p)),
        lambda z, p: z.exp() * torch.rsqrt(1.0 + (p.tau * torch.expm1(z)).square()) ** 3 / _f(_softsign(z, p)),
    ),
    "logarctan_a": Gate(
        _logarctan,
        lambda z, p: 1.0 / (1.0 + (p.tau * z).square()),
    ),
    "logarctan_b": Gate(
        lambda z, p: _log1p(_logarctan(z, p)),
        lambda z, p: 1.0 / ((1.0 + (p.tau * z).square()) * _f(_logarctan(z, p))),
    ),
    "identity": Gate(
        lambda z, p: z,
        lambda z, p: torch.ones_like(z),
    ),
    "clip": Gate(
        lambda z, p: one_sided_clip(z, p.positive, -p.clip_log, p.clip_log)[0],
        lambda z, p: one_sided_clip(z, p.positive, -p.clip_log, p.clip_log)[1].to(z.dtype),
    ),
}

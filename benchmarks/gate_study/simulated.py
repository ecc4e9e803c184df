"""Bias and variance of every objective's gradient on simulated drift, against the exact off-policy gradient.

The weight that an objective gives a token is read from `policy_loss` itself: minus the derivative of the loss by the
token's log-prob is N·k, and with it the gradient of one sequence in the policy's logits is N·k·(one-hot − π), whose sum
and square need no further autograd. All figures are relative to the norm of the true gradient g:

    bias        ‖E ĝ − g‖, of which 0.1 or so may be noise
    scaled_bias the same after the best common scale of E ĝ, which an optimiser like Adam undoes: √(1 − cosine²)
    deviation   √(trace of the covariance of a batch's gradient), BATCH sequences
    cosine      of E ĝ and g
    alignment   expected cosine of a batch's gradient and g: ⟨E ĝ, g⟩ / √(‖E ĝ‖² + trace)
    error       √(bias² + deviation²)
    pull        the part of E ĝ − g that points back to the sampler, along −∇KL(μ‖π)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gate_study.candidates import OBJECTIVES
from benchmarks.gate_study.drift import SETTINGS, Drift, Sample
from services.job.spec import objective_config
from sspo_core import LossInputs, policy_loss

BATCH = 256
"""Sequences of the batch that figures are given for."""
TOKENS = 2**19
"""Per realisation of a setting."""
REALISATIONS = 2
SEED = 1

UNBIASED: dict[str, object] = {"name": "vespo", "aggregation": "seq-mean-token-mean"} | {
    f"{part}_{sign}": value for part, value in (("power", 1.0), ("decay", 0.0)) for sign in ("pos", "neg")
}
"""φ(W) = W: the true importance weight."""
SIMULATED = OBJECTIVES | {"product ratio": UNBIASED}

Figures = dict[str, float]


def weights(sample: Sample, objective: Mapping[str, object]) -> Tensor:
    """k/T of every token, [B, T]."""
    logprobs = sample.policy_logprobs.clone().requires_grad_()
    inputs = LossInputs(logprobs, sample.behaviour_logprobs, sample.advantages, sample.mask)
    loss = policy_loss(inputs, objective_config(dict(objective))).loss
    return -len(logprobs) * torch.autograd.grad(loss, logprobs)[0]


def gradient(drift: Drift, sample: Sample, weights_BT: Tensor) -> tuple[Tensor, float]:
    """Mean of the sequences' gradients in the policy's logits, [T, V], and the trace of their covariance."""
    policy_TV = drift.policy_logits.softmax(-1)
    count = len(weights_BT)
    sums_TV = torch.zeros_like(policy_TV).scatter_add_(1, sample.tokens.t(), weights_BT.t())
    mean_TV = (sums_TV - weights_BT.sum(0)[:, None] * policy_TV) / count
    chosen_BT = policy_TV.expand(count, -1, -1).gather(-1, sample.tokens[..., None])[..., 0]
    square = weights_BT.square() * (1.0 - 2.0 * chosen_BT + policy_TV.square().sum(-1))
    return mean_TV, float(square.sum() / count - mean_TV.square().sum()) * count / (count - 1)


def moments(drift: Drift, sample: Sample, weights_BT: Tensor) -> Figures:
    """Of the gradient, relative to the true one g; squares without what the noise of the mean adds to them."""
    mean, trace = gradient(drift, sample, weights_BT)
    true, noise = drift.true_gradient(), trace / len(weights_BT)
    back = sample.mask.double().mean(0)[:, None] * (drift.sampler_logits.softmax(-1) - drift.policy_logits.softmax(-1))
    norm = float(true.norm())
    return {
        "bias_square": (float((mean - true).square().sum()) - noise) / norm**2,
        "square": (float(mean.square().sum()) - noise) / norm**2,
        "inner": float((mean * true).sum()) / norm**2,
        "trace": trace / BATCH / norm**2,
        "pull": float(((mean - true) * back).sum() / back.norm()) / norm,
    }


def figures_of(found: list[Figures]) -> Figures:
    """The figures of the module's table from the moments of every realisation."""
    mean = {name: math.fsum(one[name] for one in found) / len(found) for name in found[0]}
    bias_square, square = max(0.0, mean["bias_square"]), max(1e-12, mean["square"])
    cosine = max(-1.0, min(1.0, mean["inner"] / math.sqrt(square)))
    return {
        "bias": math.sqrt(bias_square),
        "scaled_bias": math.sqrt(1.0 - cosine**2) if cosine > 0 else 1.0,
        "deviation": math.sqrt(mean["trace"]),
        "cosine": cosine,
        "alignment": mean["inner"] / math.sqrt(square + mean["trace"]),
        "error": math.sqrt(bias_square + mean["trace"]),
        "pull": mean["pull"],
    }


def measured(setting: str) -> Iterator[tuple[str, Figures]]:
    """(objective, figures) on one setting: all objectives on the same samples, means over its realisations."""
    generator = torch.Generator().manual_seed(SEED)
    drifts = [SETTINGS[setting].draw(generator) for _ in range(REALISATIONS)]
    samples = [drift.sample(TOKENS // SETTINGS[setting].longest, generator) for drift in drifts]
    for name, objective in SIMULATED.items():
        pairs = zip(drifts, samples, strict=True)
        yield name, figures_of([moments(drift, sample, weights(sample, objective)) for drift, sample in pairs])


def main(path: Path) -> None:
    """Measures every setting and writes one JSON line for each objective on it."""
    torch.set_num_threads(1)
    with path.open("w") as file:
        for setting in SETTINGS:
            for name, figures in measured(setting):
                rounded = {figure: round(value, 4) for figure, value in figures.items()}
                file.write(json.dumps({"setting": setting, "objective": name, **rounded}) + "\n")
            print(f"simulated: {setting}", flush=True)

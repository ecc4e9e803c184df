"""Policies whose drift from their sampler is known, and whose gradient is known exactly.

Every position has a softmax of its own over `VOCAB` tokens. The sampler μ has the policy's logits less some noise, so
the log ratio of a token is that noise up to a constant of its position. Four positions are a block, which is right when
each of its tokens is one of the good ones; the reward is the number of right blocks, the advantage A that reward
standardised under μ, for every length T by itself. Positions are independent, so P(right) = Π_t π_t(good), and

    ∇J = E_μ[(1/T)·W·A·Σ_t ∇log π_t] = ∇ mean_T[Σ_blocks P(right) / (T·sd_T)],    W the product of the T ratios,

is exact. It is what all objectives aim at: on-policy (W = 1) it is the gradient of every one of them, 1/T included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 4
VOCAB, GOOD = 8, 2
"""Tokens, and how many of them, the first ones, are good."""
GOOD_MASS = 0.84
"""Roughly the probability of the good ones under the policy: a block is right half of the time."""
LOGIT_SPREAD = 0.5


@dataclass(frozen=True)
class Sample:
    """Sequences from μ, all [B, T] but the advantages, [B]."""

    tokens: Tensor
    mask: Tensor
    policy_logprobs: Tensor
    behaviour_logprobs: Tensor
    advantages: Tensor


@dataclass(frozen=True)
class Drift:
    """A policy and its sampler."""

    policy_logits: Tensor
    """[T, V] float64."""
    sampler_logits: Tensor
    lengths: Tensor
    """Lengths of sequences, multiples of the block up to T, each as probable as the others."""

    def true_gradient(self) -> Tensor:
        """∇J in the policy's logits, [T, V]."""
        logits = self.policy_logits.clone().requires_grad_()
        right = _right(logits)
        parts = [right[: n // BLOCK].sum() / (n * self._reward(n)[1]) for n in self.lengths.tolist()]
        gradient: Tensor = torch.autograd.grad(torch.stack(parts).mean(), logits)[0]
        return gradient

    def sample(self, count: int, generator: torch.Generator) -> Sample:
        """`count` sequences."""
        probabilities = self.sampler_logits.softmax(-1)
        tokens_BT = torch.multinomial(probabilities, count, replacement=True, generator=generator).t()
        chosen = torch.randint(len(self.lengths), (count,), generator=generator)
        return self.weighed(tokens_BT, self.lengths[chosen])

    def weighed(self, tokens_BT: Tensor, lengths_B: Tensor) -> Sample:
        """The given sequences with their log-probs and advantages."""
        mask_BT = torch.arange(tokens_BT.shape[1]) < lengths_B[:, None]
        right_BT = ((tokens_BT < GOOD) & mask_BT).view(len(tokens_BT), -1, BLOCK).all(-1)
        moments = {n: self._reward(n) for n in set(lengths_B.tolist())}
        mean_B, deviation_B = torch.tensor([moments[n] for n in lengths_B.tolist()], dtype=torch.float64).unbind(1)
        return Sample(
            tokens=tokens_BT,
            mask=mask_BT,
            policy_logprobs=_chosen(self.policy_logits, tokens_BT),
            behaviour_logprobs=_chosen(self.sampler_logits, tokens_BT),
            advantages=(right_BT.sum(1) - mean_B) / deviation_B,
        )

    def _reward(self, length: int) -> tuple[float, float]:
        """Mean and standard deviation under μ."""
        p = _right(self.sampler_logits)[: length // BLOCK]
        return float(p.sum()), float((p * (1.0 - p)).sum().sqrt())


def _right(logits: Tensor) -> Tensor:
    """Probability that a block is right, [T / BLOCK]."""
    return logits.softmax(-1)[:, :GOOD].sum(-1).view(-1, BLOCK).prod(-1)


def _chosen(logits: Tensor, tokens_BT: Tensor) -> Tensor:
    return logits.log_softmax(-1).expand(len(tokens_BT), -1, -1).gather(-1, tokens_BT[..., None])[..., 0]


# The kinds of drift. Noise is what the policy's logits have that the sampler's had not, [T, V].

Noise = Callable[[int, torch.Generator], Tensor]


def _normal(scale: float) -> Noise:
    return lambda length, generator: scale * torch.randn(length, VOCAB, generator=generator, dtype=torch.float64)


def _student(scale: float, freedom: int) -> Noise:
    """Student's t: a normal over the root of a mean of squared normals."""

    def noise(length: int, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(freedom + 1, length, VOCAB, generator=generator, dtype=torch.float64)
        return scale * drawn[0] / drawn[1:].square().mean(0).sqrt()

    return noise


def _outlier(scale: float, around: float) -> Noise:
    """One position whose tokens have moved by ±scale, the others hardly."""

    def noise(length: int, generator: torch.Generator) -> Tensor:
        drawn = _normal(around)(length, generator)
        place = int(torch.randint(length, (1,), generator=generator))
        drawn[place] = scale * drawn[place].sign()
        return drawn

    return noise


def _along(scale: float, around: float) -> Noise:
    """The good tokens have gained (lost, for a negative scale) on the others, as by learning."""

    def noise(length: int, generator: torch.Generator) -> Tensor:
        drawn = _normal(around)(length, generator)
        drawn[:, :GOOD] += scale
        return drawn

    return noise


def _skewed_lengths(longest: int, count: int) -> Tensor:
    """Quantiles of a log-normal with median 16, as multiples of the block."""
    quantiles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = 16.0 * torch.exp(math.sqrt(2.0) * torch.erfinv(2.0 * quantiles - 1.0))
    return (drawn / BLOCK).round().clamp(1, longest // BLOCK).long() * BLOCK


@dataclass(frozen=True)
class Setting:
    """A kind of drift."""

    title: str
    noise: Noise
    longest: int = 32
    skewed: bool = False

    def draw(self, generator: torch.Generator) -> Drift:
        """One policy with its sampler."""
        logits = _normal(LOGIT_SPREAD)(self.longest, generator)
        logits[:, :GOOD] += math.log(GOOD_MASS / (1.0 - GOOD_MASS) * (VOCAB - GOOD) / GOOD)
        lengths = _skewed_lengths(self.longest, 64) if self.skewed else torch.tensor([self.longest])
        return Drift(logits, logits - self.noise(self.longest, generator), lengths)


SETTINGS: dict[str, Setting] = {
    "mild": Setting("log-normal, sd 0.1", _normal(0.1)),
    "lognormal": Setting("log-normal, sd 0.4", _normal(0.4)),
    "heavy": Setting("heavy-tailed: Student t, 2 degrees, scale 0.15", _student(0.15, 2)),
    "outlier": Setting("one outlier, e^±2, in 128 tokens", _outlier(2.0, 0.02), longest=128),
    "skewed": Setting("length-skewed, 4 to 128 tokens, sd 0.2", _normal(0.2), longest=128, skewed=True),
    "towards": Setting("learned: good tokens up by e^0.5", _along(0.5, 0.1)),
    "away": Setting("unlearned: good tokens down by e^0.5", _along(-0.5, 0.1)),
}
"""Name → kind of drift."""

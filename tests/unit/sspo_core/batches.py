"""Batches for the tests, and the loss with its gradient in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import settings
from torch import Tensor

from sspo_core.config import CorrectionConfig
from sspo_core.losses import policy_loss
from sspo_core.types import Denominators, LossInputs

MODEST = settings(max_examples=25, deadline=None)


@dataclass(frozen=True)
class Batch:
    """[B, T] log ratios with a mask; the behaviour log-probs are around −1.5."""

    z: Tensor
    behaviour: Tensor
    mask: Tensor
    advantages: Tensor

    @property
    def rows(self) -> list[list[float]]:
        return [
            [float(z) for z, m in zip(z_T, m_T, strict=True) if m] for z_T, m_T in zip(self.z, self.mask, strict=True)
        ]

    @property
    def turn_ids(self) -> Tensor:
        """Two turns. This and what follows is a function of each token or row by itself, so that it moves with it."""
        return 9 - 4 * (self.behaviour < -1.5).long()

    @property
    def reference(self) -> Tensor:
        return self.behaviour + 0.2 * torch.sin(7.0 * self.behaviour)

    @property
    def log_partition(self) -> Tensor:
        return 0.3 * torch.cos(3.0 * self.advantages)

    def needed_by(self, config: Any) -> dict[str, Tensor]:
        """The inputs that only some objectives ask for."""
        supplies = {
            "turn_ids": ("turn_ids", self.turn_ids),
            "reference": ("reference_logprobs", self.reference),
            "log_partition": ("log_partition", self.log_partition),
        }
        return dict(supplies[need] for need in getattr(config, "needs", ()) if need in supplies)

    def cut_at(self, row: int) -> tuple[Batch, Batch]:
        """Two micro-batches."""
        tensors = (self.z, self.behaviour, self.mask, self.advantages)
        return Batch(*(x[:row] for x in tensors)), Batch(*(x[row:] for x in tensors))


def batch(
    seed: int = 0, *, sequences: int = 5, tokens: int = 7, spread: float = 0.4, dtype: torch.dtype = torch.float64
) -> Batch:
    """Signs of A in turn +, −, +, 0, −, ...; ragged lengths, holes in the mask, and one sequence without a token."""
    generator = torch.Generator().manual_seed(seed)
    z = spread * torch.randn(sequences, tokens, generator=generator, dtype=torch.float64)
    behaviour = -3.0 * torch.rand(sequences, tokens, generator=generator, dtype=torch.float64)
    mask = torch.rand(sequences, tokens, generator=generator) < 0.7
    mask[:, 0] = True
    if sequences > 2:
        mask[2] = False
    signs = torch.tensor([1.0, -1.0, 1.0, 0.0, -1.0], dtype=torch.float64).repeat(sequences)[:sequences]
    advantages = signs * (0.5 + torch.rand(sequences, generator=generator, dtype=torch.float64))
    return Batch(z.to(dtype), behaviour.to(dtype), mask, advantages.to(dtype))


def evaluate(
    made: Batch,
    config: Any,
    *,
    advantages: Tensor | None = None,
    denominators: Denominators | None = None,
    **more: Any,
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient with respect to the policy log-probs."""
    corrections = more.pop("corrections", CorrectionConfig())
    policy = (made.behaviour + made.z).detach().requires_grad_()
    inputs = LossInputs(
        policy_logprobs=policy,
        behaviour_logprobs=made.behaviour,
        advantages=made.advantages if advantages is None else advantages,
        mask=made.mask,
        denominators=denominators,
        **(made.needed_by(config) | more),
    )
    outputs = policy_loss(inputs, config, corrections)
    (grad,) = torch.autograd.grad(outputs.loss, policy)
    return outputs.loss.detach(), grad


def weights(made: Batch, grad: Tensor, config: Any = None) -> Tensor:
    """k_it from a gradient: undoes −N, the share of a token. Without a config N is 1/(B·T_i)."""
    lengths, sequences = made.mask.sum(dim=1, keepdim=True).clamp(min=1), made.mask.any(dim=1).sum()
    divisors = {
        "seq-mean-token-mean": lengths * sequences,
        "token-mean": made.mask.sum(),
        "seq-mean-token-sum": sequences,
        "sum-norm": sequences * getattr(config, "norm_tokens", 1),
    }
    return -grad * divisors[getattr(config, "aggregation", "seq-mean-token-mean")]


def unmasked(values: Tensor, mask: Tensor) -> list[list[float]]:
    return [[float(v) for v, m in zip(v_T, m_T, strict=True) if m] for v_T, m_T in zip(values, mask, strict=True)]

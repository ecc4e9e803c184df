"""Batches for the tests, and the loss with its gradient in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import settings
from torch import Tensor

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
    **more: Tensor,
) -> tuple[Tensor, Tensor]:
    """Loss and its gradient with respect to the policy log-probs."""
    policy = (made.behaviour + made.z).detach().requires_grad_()
    outputs = policy_loss(
        LossInputs(
            policy_logprobs=policy,
            behaviour_logprobs=made.behaviour,
            advantages=made.advantages if advantages is None else advantages,
            mask=made.mask,
            denominators=denominators,
            **more,
        ),
        config,
    )
    (grad,) = torch.autograd.grad(outputs.loss, policy)
    return outputs.loss.detach(), grad


def weights(made: Batch, grad: Tensor) -> Tensor:
    """k_it from a gradient: undoes −1/(B·T_i), the share of a token under seq-mean-token-mean."""
    lengths = made.mask.sum(dim=1, keepdim=True).clamp(min=1)
    return -grad * lengths * made.mask.any(dim=1).sum()


def unmasked(values: Tensor, mask: Tensor) -> list[list[float]]:
    return [[float(v) for v, m in zip(v_T, m_T, strict=True) if m] for v_T, m_T in zip(values, mask, strict=True)]

"""Log-probs of chosen tokens from hidden states, without the logits of the whole vocabulary ever existing.

log softmax(h·Wᵀ / T) at one token per position needs that token's logit and one log-sum-exp. Both are gathered block by
block, a block being some tokens × some of the vocabulary; the backward pass computes every block again. That is four
matrix products where the plain way has three, and no memory that grows with tokens × vocabulary.

Invariants: results are float32 (float64 for float64 inputs), and products of half-precision inputs are summed and kept
in float32. The gradient of the weight is summed in float32 and arrives at the given tensor, so that a head tied to the
embedding adds to the embedding's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_TOKENS = 4096
BLOCK_BYTES = 16 * 2**20
"""Of one block of logits."""


def linear_logprobs(
    hidden: Tensor,
    lm_head_weight: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    *,
    vocab_size: int | None = None,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """log softmax(hidden @ lm_head_weightᵀ / temperature) at `targets`, and the entropy of that distribution if asked.

    `hidden` is [..., H], `lm_head_weight` [V, H], `targets` [...] integers; both results have the shape of `targets`.
    Rows of the weight from `vocab_size` on are padding: outside the distribution, without a gradient. Differentiable
    once, in `hidden` and `lm_head_weight`, through log-probs and entropy. The cost is in proportion to the positions
    given, so pick those that are needed before the call. Under autocast operands have its type, as in a linear layer.

    A target outside the vocabulary gives NaN, which every objective masks and counts; to refuse it would be to wait for
    the device. Raises ValueError naming the argument that doesn't fit.
    """
    size = _checked(hidden, lm_head_weight, targets, temperature, vocab_size)
    device = hidden.device.type
    operand = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    problem = _Problem(float(temperature), size, operand, torch.promote_types(hidden.dtype, torch.float32))
    logprobs, entropies = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden.reshape(-1, hidden.shape[-1]), lm_head_weight, targets.reshape(-1), problem, entropy
    )
    return logprobs.reshape(targets.shape), entropies.reshape(targets.shape) if entropy else None


def _checked(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, vocab_size: int | None) -> int:
    """The size of the vocabulary."""
    if weight.ndim != 2 or hidden.ndim < 1 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"lm_head_weight: must be [V, H] for hidden [..., H], got {tuple(weight.shape)} for {tuple(hidden.shape)}"
        )
    if targets.shape != hidden.shape[:-1] or targets.is_floating_point():
        raise ValueError(f"targets: must be integers {tuple(hidden.shape[:-1])}, got {tuple(targets.shape)}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature: must be a finite number above 0, got {temperature!r}")
    if vocab_size is not None and not 0 < vocab_size <= weight.shape[0]:
        raise ValueError(f"vocab_size: must lie in [1, {weight.shape[0]}], got {vocab_size!r}")
    return weight.shape[0] if vocab_size is None else vocab_size


@dataclass(frozen=True)
class _Problem:
    """Inputs that forward and backward share."""

    temperature: float
    vocab_size: int
    operand: torch.dtype
    """Type of the operands of a matrix product."""
    dtype: torch.dtype
    """Type of its result."""

    def blocks(self, tokens: int) -> Iterator[tuple[slice, list[slice]]]:
        """Ranges of tokens, each with its ranges of the vocabulary."""
        for start in range(0, tokens, BLOCK_TOKENS):
            rows = slice(start, min(start + BLOCK_TOKENS, tokens))
            width = max(1, BLOCK_BYTES // ((rows.stop - start) * self.dtype.itemsize))
            edges = range(0, self.vocab_size, width)
            yield rows, [slice(edge, min(edge + width, self.vocab_size)) for edge in edges]

    def cast(self, x: Tensor) -> Tensor:
        x = x.to(self.operand)
        return x if x.is_cuda else x.to(self.dtype)  # off the GPU only equal types multiply into a wider one

    def product(self, out: Tensor, left: Tensor, right: Tensor, scale: float = 1.0, *, add: bool = False) -> None:
        """out = scale·left@right, plus out if `add`; operands already cast."""
        if left.dtype == out.dtype:
            out.addmm_(left, right, beta=1.0 if add else 0.0, alpha=scale)
            return
        wide = torch.mm(left, right, out_dtype=out.dtype)
        out.add_(wide, alpha=scale) if add else torch.mul(wide, scale, out=out)


class _LinearLogprobs(torch.autograd.Function):
    """[N, H], [V, H], [N] → log-probs [N] and entropies [N] (empty unless asked)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, problem: _Problem, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        logprobs, log_sums, entropies = [], [], []
        with torch.autocast(hidden.device.type, enabled=False):
            for rows, columns in problem.blocks(hidden.shape[0]):
                chosen, log_sum, entropy_N = _statistics(
                    problem.cast(hidden[rows]), weight, targets[rows], problem, columns, entropy
                )
                logprobs.append(chosen - log_sum)
                log_sums.append(log_sum)
                entropies.append(entropy_N)
        nothing = [hidden.new_empty(0, dtype=problem.dtype)]
        ctx.problem = problem
        ctx.set_materialize_grads(False)  # an entropy that is only looked at costs nothing on the way back
        log_sum_N, entropy_N = torch.cat(log_sums or nothing), torch.cat(entropies or nothing)
        ctx.save_for_backward(hidden, weight, targets, log_sum_N, entropy_N)
        return torch.cat(logprobs or nothing), entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor | None, grad_entropies: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, log_sum, entropies = ctx.saved_tensors
        if grad_logprobs is None:
            grad_logprobs = torch.zeros_like(log_sum)
        problem: _Problem = ctx.problem
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden, dtype=problem.dtype) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=problem.dtype) if needs_weight else None
        with torch.autocast(hidden.device.type, enabled=False):
            for rows, columns in problem.blocks(hidden.shape[0]):
                operand = problem.cast(hidden[rows])
                logits = _buffer(operand, columns, problem.dtype)
                upstream = _Upstream(
                    targets[rows],
                    grad_logprobs[rows].unsqueeze(1),
                    log_sum[rows].unsqueeze(1),
                    None if grad_entropies is None else grad_entropies[rows].unsqueeze(1),
                    None if grad_entropies is None else entropies[rows].unsqueeze(1),
                )
                for column in columns:
                    head = problem.cast(weight[column])
                    block = _logits(logits, operand, head, problem)
                    upstream.replace_by_gradient(block, column)
                    grad = block.to(head.dtype)
                    scale = 1.0 / problem.temperature
                    if grad_hidden is not None:
                        problem.product(grad_hidden[rows], grad, head, scale, add=True)
                    if grad_weight is not None:
                        problem.product(grad_weight[column], grad.t(), operand, scale, add=True)
        return (
            None if grad_hidden is None else grad_hidden.to(hidden.dtype),
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None,
            None,
            None,
        )


def _buffer(operand: Tensor, columns: list[slice], dtype: torch.dtype) -> Tensor:
    """Room for one block of logits, used again for each: fresh pages would cost as much as the product."""
    return torch.empty(operand.shape[0] * (columns[0].stop - columns[0].start), dtype=dtype, device=operand.device)


def _logits(buffer: Tensor, operand: Tensor, head: Tensor, problem: _Problem) -> Tensor:
    block = buffer[: operand.shape[0] * head.shape[0]].view(operand.shape[0], head.shape[0])
    problem.product(block, operand, head.t(), 1.0 / problem.temperature)
    return block


def _in_block(targets: Tensor, column: slice) -> tuple[Tensor, Tensor]:
    """Column of every target within the block, [N, 1] and clamped to it, and whether it lies there."""
    local = (targets - column.start).unsqueeze(1)
    width = column.stop - column.start
    return local.clamp(0, width - 1), (local >= 0) & (local < width)


def _statistics(
    operand: Tensor, weight: Tensor, targets: Tensor, problem: _Problem, columns: list[slice], entropy: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Logit of the target, log-sum-exp and entropy (empty unless asked) of every row, [N]."""
    buffer = _buffer(operand, columns, problem.dtype)
    scratch = torch.empty_like(buffer) if entropy else None
    size = operand.shape[0]
    chosen = buffer.new_full((size, 1), torch.nan)
    largest = buffer.new_full((size, 1), torch.finfo(problem.dtype).min)
    # Σ e^(x − m) and Σ e^(x − m)·(x − m), with m the largest logit so far
    total, weighted = buffer.new_zeros(size, 1), buffer.new_zeros(size, 1)
    for column in columns:
        block = _logits(buffer, operand, problem.cast(weight[column]), problem)
        index, inside = _in_block(targets, column)
        chosen = torch.where(inside, block.gather(1, index), chosen)
        before, largest = largest, torch.maximum(largest, block.amax(dim=1, keepdim=True))
        shrink = (before - largest).exp()
        block.sub_(largest)
        if scratch is None:
            total = total * shrink + block.exp_().sum(dim=1, keepdim=True)
            continue
        powers = torch.exp(block, out=scratch[: block.numel()].view_as(block))
        # where nothing was summed before, total and weighted are 0, and so is what they carry over
        weighted = torch.where(total > 0, (weighted + total * (before - largest)) * shrink, 0.0)
        total = total * shrink + powers.sum(dim=1, keepdim=True)
        weighted = weighted + powers.mul_(block).sum(dim=1, keepdim=True)
    log_total = total.log()
    entropies = (log_total - weighted / total).squeeze(1) if entropy else buffer.new_empty(0)
    return chosen.squeeze(1), (largest + log_total).squeeze(1), entropies


@dataclass(frozen=True)
class _Upstream:
    """Gradients that reach some rows from above; everything [N, 1] but the targets."""

    targets: Tensor
    logprobs: Tensor
    log_sum: Tensor
    entropies: Tensor | None
    entropy: Tensor | None

    def replace_by_gradient(self, block: Tensor, column: slice) -> None:
        """Logits x become d/dx: with p = softmax(x), g·(1[target] − p) − g_H·p·(log p + H)."""
        block.sub_(self.log_sum)
        if self.entropies is None or self.entropy is None:
            block.exp_().mul_(-self.logprobs)
        else:
            share = (block + self.entropy).mul_(self.entropies).add_(self.logprobs)
            block.exp_().mul_(share).neg_()
        index, inside = _in_block(self.targets, column)
        block.scatter_(1, index, block.gather(1, index) + torch.where(inside, self.logprobs, 0.0))

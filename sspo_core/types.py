"""The loss's inputs and outputs. Shape suffixes in this package: `_B` sequence, `_T` token, `_G` member of a group.

`policy` is being trained, `behaviour` has sampled (with its own numerics), `proximal` is the policy at the start of the
update as the trainer recomputes it, and a KL penalty holds the policy to `reference`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Denominators:
    """Counts over the whole batch of one update: all micro-batches, all ranks. Losses are sums divided by these.

    A count of 0 divides by 1, since then there is nothing to sum.
    """

    tokens: float
    """Unmasked tokens."""
    sequences: float
    """Sequences with at least one unmasked token."""

    def __post_init__(self) -> None:
        for name in ("tokens", "sequences"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name}: must be a finite count, got {value!r}")

    @classmethod
    def of(cls, mask_BT: Tensor) -> Denominators:
        """The counts of one [B, T] mask; reads them from the device, so call it outside the micro-batch loop."""
        counted = mask_BT.bool()
        return cls(tokens=int(counted.sum().item()), sequences=int(counted.any(dim=1).sum().item()))


@dataclass(frozen=True)
class LossInputs:
    """One micro-batch. All [B, T] unless said otherwise; only `policy_logprobs` receives a gradient.

    Positions outside the mask may hold anything, NaN and infinity included. Raises ValueError naming the field whose
    shape doesn't fit.
    """

    policy_logprobs: Tensor
    behaviour_logprobs: Tensor
    advantages: Tensor
    """[B], or [B, T] for an advantage per token."""
    mask: Tensor
    """Boolean or 0/1: the tokens that the policy chose."""
    turn_ids: Tensor | None = None
    """Turn of every token, any integers, for objectives that know turns."""
    proximal_logprobs: Tensor | None = None
    """If given, the objective's ratio is policy/proximal, weighted by the detached proximal/behaviour."""
    reference_logprobs: Tensor | None = None
    denominators: Denominators | None = None
    """None: this is the whole batch. A micro-batch needs them, else its loss is not a share of the batch's."""
    log_partition: Tensor | None = None
    """[B], log Z of the prompt, for `flowrl`; receives a gradient too, from sequences with an unmasked token."""
    entropy: Tensor | None = None
    """Of the policy at every token; only counted."""
    buckets: Sequence[int] | None = None
    """[B] plain integers, such as a sequence's staleness: every bucket's metrics are counted apart as well."""

    def __post_init__(self) -> None:
        shape = self.policy_logprobs.shape
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"policy_logprobs: must be [B, T] and not empty, got {tuple(shape)}")
        for name in ("behaviour_logprobs", "mask", "turn_ids", "proximal_logprobs", "reference_logprobs", "entropy"):
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"{name}: must be {tuple(shape)} as policy_logprobs, got {tuple(value.shape)}")
        if self.advantages.shape not in (shape, shape[:1]):
            raise ValueError(f"advantages: must be [B] or [B, T] of {tuple(shape)}, got {tuple(self.advantages.shape)}")
        if self.buckets is not None and len(self.buckets) != shape[0]:
            raise ValueError(f"buckets: must be {shape[0]} integers, got {len(self.buckets)}")
        if self.log_partition is not None and self.log_partition.shape != shape[:1]:
            raise ValueError(f"log_partition: must be {tuple(shape[:1])}, got {tuple(self.log_partition.shape)}")
        for name in ("policy_logprobs", "behaviour_logprobs", "proximal_logprobs", "reference_logprobs", "entropy"):
            value = getattr(self, name)
            if value is not None and not value.is_floating_point():
                raise ValueError(f"{name}: must be floating point, got {value.dtype}")


@dataclass(frozen=True)
class TokenReadings:
    """Inputs and effects of the objective on every token, detached, [B, T]; meaningless outside the mask."""

    log_ratio: Tensor
    """policy − behaviour, not clamped."""
    weight: Tensor
    """k/A, with the correction's: by what the token's gradient differs from REINFORCE's."""


@dataclass(frozen=True)
class LossOutputs:
    """Outputs of `policy_loss`."""

    loss: Tensor
    """Scalar, to be minimised; losses of micro-batches with the same denominators add up."""
    metrics: Mapping[str, Tensor]
    """Detached additive state, on the loss's device: give it to `RatioDiagnostics`, merge, then read `figures()`."""
    buckets: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    """The same of every bucket of the inputs; they add up to `metrics`."""
    tokens: TokenReadings | None = None
    """Readings of single tokens, for display."""

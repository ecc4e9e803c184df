"""The weight w = proximal/behaviour beside an objective's own ratio, and the rejection of sequences that drifted.

Everything here is detached. Denominators stay those of the whole batch. A masked or rejected token takes its own share
of the gradient away and leaves the shares of the others as they were (as in AReaL).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sspo_core.config import CorrectionConfig
from sspo_core.objectives.composition import Composition
from sspo_core.objectives.ratios import LogRatios, RatioName, at_level, clamped

SHARED_RATIOS: tuple[RatioName, ...] = ("turn", "sequence_geometric")
"""Ratios whose gradient a token gets from all tokens of its turn or sequence: no weight can single one out."""


@dataclass(frozen=True)
class Correction:
    """Weights and rejections of one micro-batch, [B, T]."""

    weight: Tensor
    """Multiplies the objective, 0 for rejected sequences."""
    importance: Tensor | None
    """w after truncation or masking; None without one."""
    altered: Tensor
    """Boolean: where truncation or masking changed w."""
    rejected: Tensor
    """[B], boolean."""
    level: RatioName


@torch.no_grad()
def correct(composition: Composition, ratios: LogRatios, config: CorrectionConfig) -> Correction:
    """Raises ValueError naming `proximal_logprobs` where a weight is asked for and can't be had."""
    ones, nothing = torch.ones_like(ratios.drift), torch.zeros_like(ratios.mask)
    log_w = _log_weight(composition, ratios, config)
    level: RatioName = composition.correction_level if config.level == "objective" else config.level
    if log_w is not None and level == "token" and composition.ratio in SHARED_RATIOS:
        raise ValueError(
            f"level: token weights need tokens with ratios of their own, and this objective has one per "
            f"{composition.ratio.split('_')[0]}"
        )
    weight, importance, altered = ones, None, nothing
    if log_w is not None:
        raw = at_level(level, log_w, ratios).exp()
        importance, altered = _bounded(raw, config)
        altered = altered & ratios.mask
        weight = ones if composition.folds_correction else importance
    rejected = torch.zeros_like(ratios.mask[:, 0])
    if config.rejects:
        mismatch = clamped(ratios.drift) if ratios.correction is None else ratios.correction
        rejected = _outside(at_level("sequence_geometric", mismatch, ratios)[:, 0].exp(), config)
        rejected = rejected & ratios.mask.any(dim=1)
        weight = torch.where(rejected[:, None], 0.0, weight)
    return Correction(weight, importance, altered, rejected, level)


def ratio_of(composition: Composition, ratios: LogRatios, correction: Correction) -> Tensor:
    """The log ratio that the objective looks at, [B, T], proximal/behaviour included where it folds it in."""
    if not composition.folds_correction or correction.importance is None:
        return at_level(composition.ratio, ratios.policy, ratios)
    log_w = clamped(correction.importance.log())  # a masked weight of 0 becomes the smallest one
    if correction.level == "token":
        return at_level(composition.ratio, torch.where(ratios.mask, ratios.policy + log_w, 0.0), ratios)
    return clamped(at_level(composition.ratio, ratios.policy, ratios) + log_w)


def _log_weight(composition: Composition, ratios: LogRatios, config: CorrectionConfig) -> Tensor | None:
    if ratios.correction is not None:
        return ratios.correction
    if config.importance == "full":
        return None
    if composition.corrects:
        raise ValueError(
            f"proximal_logprobs: importance {config.importance!r} weighs proximal/behaviour; without them the "
            "objective's own ratio is policy/behaviour already"
        )
    return clamped(ratios.drift)


def _bounded(w: Tensor, config: CorrectionConfig) -> tuple[Tensor, Tensor]:
    outside = (w < config.low) | (w > config.high)
    if config.importance == "full":
        return w, torch.zeros_like(outside)
    if config.importance == "truncated":
        return w.clamp(config.low, config.high), outside
    return torch.where(outside, 0.0, w), outside


def _outside(w_B: Tensor, config: CorrectionConfig) -> Tensor:
    outside = torch.zeros_like(w_B, dtype=torch.bool)
    if config.rejection_low is not None:
        outside = outside | (w_B < config.rejection_low)
    if config.rejection_high is not None:
        outside = outside | (w_B > config.rejection_high)
    return outside

"""The gate of a job's objective as a curve to look at."""

from __future__ import annotations

import torch

from services.job.spec import JobSpec, objective_config
from services.learner.model.token_log import plain
from services.records.samples import GateCurve
from sspo_core import Denominators, LossInputs, policy_loss

MAX_LOG_RATIO, CURVE_POINTS = 3.0, 121


@torch.no_grad()
def gate_curve(spec: JobSpec) -> GateCurve:
    """By how much a token's gradient differs from REINFORCE, over z = log ratio, for either sign of the advantage.

    Of sequences of one token each: where a sequence's tokens share a ratio or a mean, z is that of the sequence.
    """
    z = torch.linspace(-MAX_LOG_RATIO, MAX_LOG_RATIO, CURVE_POINTS, dtype=torch.float64)[:, None]
    return GateCurve(
        objective=spec.objective["name"],
        log_ratio=tuple(plain(z[:, 0])),
        positive=_weights(spec, z, 1.0),
        negative=_weights(spec, z, -1.0),
        quantity="weight of a token's gradient against REINFORCE",
    )


def _weights(spec: JobSpec, z: torch.Tensor, sign: float) -> tuple[float, ...]:
    ones = torch.ones_like(z)
    inputs = LossInputs(
        policy_logprobs=z,
        behaviour_logprobs=torch.zeros_like(z),
        advantages=sign * ones[:, 0],
        mask=ones,
        reference_logprobs=z,
        denominators=Denominators(tokens=1.0, sequences=1.0),
    )
    tokens = policy_loss(inputs, objective_config(spec.objective)).tokens
    return tuple(plain(tokens.weight[:, 0])) if tokens is not None else ()

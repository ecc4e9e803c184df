"""`x_sspo.evaluation`: how a job with a validation file is evaluated."""

from __future__ import annotations

from pydantic import Field

from services.job.base import StrictModel


class EvaluationSpec(StrictModel):
    """Evaluation on the validation file: one completion a row, outside the ledger, never trained on."""

    every: int = Field(default=10, ge=1)
    """Steps between evaluations; there is one after the last step too. Raise it where evaluations hold up sampling."""
    samples: int = Field(default=64, ge=1, le=65_536)
    """Rows of the validation file that are used, the first ones. Raise it for a less noisy mean."""
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    """Sampling temperature; 0 is greedy. Set it to the rollout's to see the reward that training sees."""

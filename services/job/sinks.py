"""Receivers of step records besides our own files: `x_sspo.sinks`, and Weights & Biases."""

from __future__ import annotations

from pydantic import Field

from services.job.base import StrictModel


class WandbSpec(StrictModel):
    """A run at Weights & Biases, as `integrations` asks for it; the key is in the environment of the learner's
    process, never in a job."""

    project: str = Field(min_length=1, max_length=128)
    """Project that the run is put into."""
    name: str | None = Field(default=None, max_length=128)
    """The name of the run. null: Weights & Biases makes one up."""
    entity: str | None = Field(default=None, max_length=128)
    """User or team that owns the run. null: the key's own."""
    tags: tuple[str, ...] = Field(default=(), max_length=64)
    """Tags of the run, to find it by."""


class SinksSpec(StrictModel):
    """Receivers of step records besides our own files. The learner's machine needs the packages (`sspo[sinks]`)."""

    tensorboard: bool = False
    """Write event files to `tensorboard/` in the job's folder. Turn it on to look at a job with TensorBoard."""

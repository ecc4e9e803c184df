"""The base of everything that a job file may contain."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Unknown fields are refused, and so are infinities, which JSON can't carry back.

    The docstring under a field is its description: in the JSON schema, in /docs and in docs/job.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

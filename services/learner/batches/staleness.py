"""The one rule of staleness, in steps."""

from __future__ import annotations


def is_too_stale(group_step: int, step: int, max_staleness: int) -> bool:
    """Whether a group is too old to be trained in `step`; `group_step` is the step of its oldest token's version."""
    return step - group_step > max_staleness

"""What a job says of its guard: limits on figures, and what is done when they are crossed (`x_sspo.guard`).

By default the guard only warns: a job is trained with the settings it was given, and it is for its owner to say what
may be changed without asking.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

GuardAction = Literal["warn", "throttle", "lower_lr", "sync", "rollback", "pause"]
GuardFigure = Literal["ess_token", "ess_sequence", "outside_band_ratio", "kl_k3", "mismatch_kl_k3", "reward_share"]
GUARD_FIGURES: tuple[GuardFigure, ...] = get_args(GuardFigure)
LOW_IS_BAD = frozenset({"ess_token", "ess_sequence", "reward_share"})
MAY_EXCEED_ONE = frozenset({"kl_k3", "mismatch_kl_k3"})


class Limit(BaseModel):
    """An alarm begins beyond `enter` and ends within `leave`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    enter: float = Field(gt=0)
    leave: float = Field(gt=0)


ESS_TOKEN = Limit(enter=0.3, leave=0.5)
ESS_SEQUENCE = Limit(enter=0.5, leave=0.7)
OUTSIDE_BAND = Limit(enter=0.5, leave=0.35)
KL_K3 = Limit(enter=0.2, leave=0.1)
MISMATCH_KL_K3 = Limit(enter=0.01, leave=0.005)
REWARD_SHARE = Limit(enter=0.5, leave=0.7)
"""Of the best mean reward that any window of the job had. All six were measured on small jobs (docs/drift.md)."""


class GuardSpec(BaseModel):
    """Limits are on means over a window of steps; a figure whose limit is null is not looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    actions: tuple[GuardAction, ...] = ("warn",)
    """A ladder: each alarm begins with the first and goes on to the next while it lasts. Empty: no guard at all."""
    window_steps: int = Field(default=4, ge=1, le=256)
    cooldown_steps: int = Field(default=4, ge=1, le=4096)
    """Steps between two actions, and before an alarm that is over is forgotten."""
    ess_token: Limit | None = ESS_TOKEN
    ess_sequence: Limit | None = ESS_SEQUENCE
    outside_band_ratio: Limit | None = OUTSIDE_BAND
    kl_k3: Limit | None = KL_K3
    mismatch_kl_k3: Limit | None = MISMATCH_KL_K3
    """The engine's part: training less or more slowly does not cure it, so only warn, sync and pause answer it."""
    reward_share: Limit | None = REWARD_SHARE
    """The training reward as a share of the best that a window had; not looked at while that is not above 0."""
    learning_rate_factor: float = Field(default=0.5, gt=0, lt=1)
    """What `lower_lr` and `rollback` multiply the learning rate by; it stays so to the end of the job."""
    max_rollbacks: int = Field(default=2, ge=1, le=16)
    """Of the whole job; instead of one more it is paused."""

    @field_validator("actions")
    @classmethod
    def _pause_ends_the_ladder(cls, value: tuple[GuardAction, ...]) -> tuple[GuardAction, ...]:
        if "pause" in value[:-1]:
            raise ValueError("actions: nothing can follow pause, which ends the ladder")
        return value

    @model_validator(mode="after")
    def _limits_make_sense(self) -> GuardSpec:
        limits = {name: limit for name in GUARD_FIGURES if (limit := getattr(self, name)) is not None}
        for name, limit in limits.items():
            if (limit.enter > limit.leave) if name in LOW_IS_BAD else (limit.enter < limit.leave):
                order = "not above leave, since low" if name in LOW_IS_BAD else "not below leave, since high"
                raise ValueError(f"{name}: enter must be {order} values are bad")
            if name not in MAY_EXCEED_ONE and max(limit.enter, limit.leave) > 1:
                raise ValueError(f"{name}: is a share, so its limits lie within 0 and 1")
        if self.actions and not limits:
            raise ValueError("actions: no figure has a limit, so nothing would ever be done; [] is no guard at all")
        return self

    def limits(self) -> dict[GuardFigure, Limit]:
        """The figures that are looked at."""
        return {name: limit for name in GUARD_FIGURES if (limit := getattr(self, name)) is not None}

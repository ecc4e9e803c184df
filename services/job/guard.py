"""The guard of a job: limits on figures, and the actions when a figure crosses one (`x_sspo.guard`).

By default the guard only warns. A job is trained with the settings it was given; its owner says which of them may
change unasked.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from services.job.base import StrictModel

GuardAction = Literal["warn", "throttle", "lower_lr", "sync", "rollback", "pause"]
GuardFigure = Literal["ess_token", "ess_sequence", "outside_band_ratio", "kl_k3", "mismatch_kl_k3", "reward_share"]
GUARD_FIGURES: tuple[GuardFigure, ...] = get_args(GuardFigure)
LOW_IS_BAD = frozenset({"ess_token", "ess_sequence", "reward_share"})
MAY_EXCEED_ONE = frozenset({"kl_k3", "mismatch_kl_k3"})


class Limit(StrictModel):
    """Two values of a figure, the second one on the good side of the first, so that an alarm does not flicker."""

    enter: float = Field(gt=0)
    """Beyond it an alarm begins. Move it where the guard acts too early or too late."""
    leave: float = Field(gt=0)
    """Within it the alarm ends. Move it away from `enter` where alarms come and go."""


ESS_TOKEN = Limit(enter=0.3, leave=0.5)
ESS_SEQUENCE = Limit(enter=0.5, leave=0.7)
OUTSIDE_BAND = Limit(enter=0.5, leave=0.35)
KL_K3 = Limit(enter=0.2, leave=0.1)
MISMATCH_KL_K3 = Limit(enter=0.01, leave=0.005)
REWARD_SHARE = Limit(enter=0.5, leave=0.7)
"""Of the best mean reward that any window of the job had. All six were measured on small jobs (docs/drift.md)."""


class GuardSpec(StrictModel):
    """Limits on figures, and what is done when they are crossed. A limit is on the mean over a window of steps; a
    figure whose limit is null is not looked at."""

    actions: tuple[GuardAction, ...] = ("warn",)
    """A ladder: each alarm begins with the first action and goes on to the next while it lasts. Empty: no guard at
    all. Add actions where nobody watches the job: `throttle` halves staleness and updates, `lower_lr` lowers the
    learning rate, `sync` trains without staleness, `rollback` goes back to a checkpoint, `pause` ends the ladder."""
    window_steps: int = Field(default=4, ge=1, le=256)
    """Steps over which a figure is averaged before it is compared. Raise it for noisy jobs, lower it to act sooner."""
    cooldown_steps: int = Field(default=4, ge=1, le=4096)
    """Steps between two actions, and before an alarm that is over is forgotten. Raise it to give an action more time
    to help."""
    ess_token: Limit | None = ESS_TOKEN
    """Limits on the effective sample size of token ratios, a share of the tokens; low is bad. Raise them to be told
    sooner that few tokens carry the gradient."""
    ess_sequence: Limit | None = ESS_SEQUENCE
    """The same of sequence ratios."""
    outside_band_ratio: Limit | None = OUTSIDE_BAND
    """Limits on the share of tokens whose ratio is outside 0.9 to 1.1; high is bad. Raise them for objectives that are
    meant to go far."""
    kl_k3: Limit | None = KL_K3
    """Limits on the drift, k3 in nats a token; high is bad. Raise them for objectives that are meant to go far, lower
    them for large models."""
    mismatch_kl_k3: Limit | None = MISMATCH_KL_K3
    """Limits on the engine's part of the drift, k3 in nats a token; high is bad. Training less or more slowly does not
    cure it, so only warn, sync and pause answer it. Raise them for engines in low precision."""
    reward_share: Limit | None = REWARD_SHARE
    """Limits on the training reward, as a share of the best mean that any window of the job had; low is bad. Not
    looked at while that best is not above 0. Set it to null where rewards are meant to fall."""
    learning_rate_factor: float = Field(default=0.5, gt=0, lt=1)
    """Factor by which `lower_lr` and `rollback` multiply the learning rate; it stays so to the end of the job. Raise it
    for gentler steps."""
    max_rollbacks: int = Field(default=2, ge=1, le=16)
    """Rollbacks of the whole job; instead of one more it is paused."""

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

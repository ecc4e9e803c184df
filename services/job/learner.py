"""`x_sspo.learner`: how a batch becomes an update, and what the learner waits for and keeps."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.config import JsonDict

from services.job.base import StrictModel
from services.job.objective import CorrectionsSchema, corrections_config
from services.job.strict_json import JsonObject
from sspo_core.config import AdvantageKind


def _default_of_the_objective(schema: JsonDict) -> None:
    schema.pop("default", None)


class LearnerSpec(StrictModel):
    """How a batch becomes an update, and what the learner waits for and keeps."""

    steps: int = Field(default=100, ge=1, le=10_000_000)
    """Steps of the whole job; each trains one batch. With `n_epochs` and without `steps`, the service counts them."""
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Groups of one step. A larger batch gives a steadier gradient and fewer, slower steps."""
    updates_per_step: int = Field(default=1, ge=1, le=64)
    """Optimiser updates into which a batch is divided. More of them learn more from the same samples, and drift
    further from the policy that sampled them: watch `drift.kl_k3` and the effective sample size."""
    learning_rate: float = Field(default=1e-5, gt=0, le=1.0)
    """Learning rate of AdamW. Lower it where the reward falls or k3 grows, raise it where nothing happens; models of a
    billion parameters and more want about 1e-6."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimiser updates over which the learning rate rises linearly from 0. Raise it where the first steps do harm."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay. Leave it at 0 unless a long job lets the weights grow."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """The gradient is scaled down to this norm where it is longer. Lower it where single steps jump."""
    advantage: AdvantageKind = Field(default="group_std", json_schema_extra=_default_of_the_objective)
    """The measure that a reward is compared with: the group's mean, divided by its standard deviation or not, the mean
    of the others, or the whole batch. Left out: what the paper of the job's objective uses. Change it to compare
    objectives on equal terms."""
    drop_uninformative_groups: bool = False
    """Drop groups whose rewards are all equal (as `filtered`) and sample others, instead of training them with an
    advantage of 0. Turn it on where most groups are alike and sampling is cheap."""
    proximal_logprobs: bool = False
    """Recompute the log-probs of the policy at the start of every step: ratios are then policy/proximal, and
    proximal/behaviour is a weight of its own (`corrections`). One more forward pass a step; turn it on for stale or
    mismatched samples."""
    corrections: Annotated[JsonObject, CorrectionsSchema] = Field(default_factory=dict, validate_default=True)
    """Off-policy corrections: what becomes of the weight w = proximal/behaviour, by which an objective's ratio is
    multiplied; empty: none. Set them where samples are stale or the engine's log-probs differ from the learner's."""
    max_staleness: int = Field(default=2, ge=0, le=1024)
    """Steps by which a group's oldest token may be behind the step that trains it; an older group is dropped or waited
    for (`staleness_policy`). Raise it for more overlap of sampling and training, lower it against drift."""
    staleness_policy: Literal["drop", "wait"] = "drop"
    """How to treat a group that would become too stale: `drop` loses its samples, `wait` lets the learner stand still
    until the group is there. Use `wait` where sampling is dear."""
    synchronous: bool = False
    """Sample a batch only under the newest weights: no staleness and no overlap. For baselines and for debugging."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Steps between checkpoints. Fewer lose less time at a restart (the steps since the last one are trained again)
    and write more."""
    keep_checkpoints: int = Field(default=3, ge=1)
    """Newest checkpoints that are kept; the groups of the journal live as long as the oldest of them. Raise it to be
    able to go back further, lower it to save disk."""
    disk_quota_bytes: int | None = Field(default=None, ge=1)
    """Bytes that the job's folder may take, looked at before each checkpoint; the job fails where pruning is not
    enough. null: as much as the disk has. Set it where jobs share a disk."""
    tokens_per_microbatch: int = Field(default=8192, ge=1)
    """Tokens that go through the model at once, padding included. The result does not depend on it; lower it when
    memory runs out, raise it to use the device better."""
    max_skipped_updates: int = Field(default=3, ge=0)
    """Updates that may be skipped for a loss or gradient that is not finite, before the job fails. 0: fail at the
    first."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of the learner. Raise it on a machine with idle cores; on a GPU it changes little."""
    max_queued_bytes: int = Field(default=2**30, ge=2**20)
    """Bytes of groups that may wait in the streams, or one batch where that is more; above it no groups are issued.
    Lower it where Redis has little memory."""
    mismatch_probe_every: int = Field(default=10, ge=0)
    """Steps between measurements of the engine mismatch on a group of its own, where no step has tokens that were
    sampled under the weights it starts from; a copy of the weights is in host memory meanwhile. 0: never, which saves
    that copy."""
    wait_seconds: float = Field(default=600.0, gt=0)
    """Deadline in seconds of every wait on a machine: first batch, next batch, staleness, first weights. The job fails
    at it. Raise it where one batch takes longer to sample, or engines take longer to start."""
    stall_seconds: float = Field(default=300.0, gt=0)
    """Seconds after which a stage is named in a warning event; a learner that trains or writes for longer than this
    and `wait_seconds` together is taken for hung and replaced. Raise it where one step takes that long."""

    @field_validator("corrections")
    @classmethod
    def _known_corrections(cls, value: JsonObject) -> JsonObject:
        return dataclasses.asdict(corrections_config(value))

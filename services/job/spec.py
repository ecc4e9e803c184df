"""A job as pydantic models: what a request may say in `x_sspo`, and what a worker gets (`JobSpec`).

Invariants: unknown fields are refused, every default is written here and nowhere else, and a `JobSpec` is fully
resolved: no "auto", no None that a worker would have to interpret. Objective names, fields and defaults come from
`sspo_core.config`, which is plain standard library, so that the API needs no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from services.job.guard_spec import GuardSpec
from sspo_core.config import OBJECTIVES, AdvantageKind, CorrectionConfig

SUPPLIED = frozenset({"reference"})
"""What the learner can give an objective that asks for more than log-probs and advantages."""
SUPPORT_CHANGING = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


def objective_config(block: dict[str, Any]) -> Any:
    """The frozen config of `sspo_core` for `{"name": ..., **fields}`. Raises ValueError naming the field."""
    fields = dict(block)
    name = fields.pop("name", "sspo")
    if name not in OBJECTIVES:
        raise ValueError(f"name: unknown objective {name!r}; known: {sorted(OBJECTIVES)}")
    return _core_config(OBJECTIVES[name], fields, f"objective {name!r}")


def corrections_config(fields: dict[str, Any]) -> CorrectionConfig:
    """The off-policy corrections for these fields. Raises ValueError naming the field."""
    config: CorrectionConfig = _core_config(CorrectionConfig, fields, "the corrections")
    return config


def _core_config(config: Any, fields: dict[str, Any], whose: str) -> Any:
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(config)})
    if unknown:
        raise ValueError(f"{unknown[0]}: no such field of {whose}")
    try:
        return TypeAdapter(config).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")  # a config's own check names its field itself
        raise ValueError(f"{where}: {message}" if where else message) from error


class StrictModel(BaseModel):
    """Base of everything a request may contain: unknown fields are errors, and so are infinities, which JSON can't
    carry back."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RolloutSpec(StrictModel):
    """How completions are sampled. Temperature only: other knobs change the support and can't be replayed yet."""

    workers: int = Field(default=1, ge=0, le=256)
    group_size: int = Field(default=8, ge=1, le=1024)
    """Completions per prompt (G)."""
    temperature: float = Field(default=1.0, gt=0.0, le=10.0)
    max_tokens: int = Field(default=64, ge=1, le=131_072)
    max_prompt_tokens: int = Field(default=1024, ge=1, le=131_072)
    concurrent_groups: int = Field(default=16, ge=1, le=1024)
    """Groups one worker samples at once."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of one engine."""
    kv_cache_bytes: int = Field(default=256 * 2**20, ge=2**20)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    drain_seconds: float = Field(default=30.0, gt=0, le=3600)
    """How long a worker may finish its groups when it is paused or scaled away; then it hands them back."""

    @model_validator(mode="before")
    @classmethod
    def _temperature_only(cls, data: Any) -> Any:
        for name in SUPPORT_CHANGING:
            if isinstance(data, dict) and name in data:
                raise ValueError(
                    f"{name}: training samples by temperature only; truncated or penalised sampling changes the "
                    "support of the behaviour policy, which the learner cannot replay yet"
                )
        return data


class LearnerSpec(StrictModel):
    """How a batch becomes an update."""

    steps: int = Field(default=100, ge=1, le=10_000_000)
    batch_size: int = Field(default=32, ge=1, le=65_536)
    """Groups per step."""
    updates_per_step: int = Field(default=1, ge=1, le=64)
    learning_rate: float = Field(default=1e-5, gt=0, le=1.0)
    warmup_steps: int = Field(default=0, ge=0)
    """Optimiser updates over which the learning rate rises linearly."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    advantage: AdvantageKind = "group_std"
    """A job that doesn't say gets its objective's own: Dr. GRPO's is group_mean, for example."""
    drop_uninformative_groups: bool = False
    """Drop groups whose rewards are all equal (as `filtered`) and sample others; else they are trained with A = 0."""
    proximal_logprobs: bool = False
    """Recompute the log-probs of the policy at the start of every step: ratios are then policy/proximal, and
    proximal/behaviour is a weight of its own (`corrections`). Costs one more forward pass."""
    corrections: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    """Off-policy corrections, fields of `sspo_core.CorrectionConfig`; empty: none."""
    max_staleness: int = Field(default=2, ge=0, le=1024)
    """Steps. A group whose oldest token is older is dropped, or waited for (`staleness_policy`)."""
    staleness_policy: Literal["drop", "wait"] = "drop"
    synchronous: bool = False
    """Sample a batch only under the newest weights: no staleness, no overlap."""
    checkpoint_every: int = Field(default=10, ge=1)
    """Steps."""
    keep_checkpoints: int = Field(default=3, ge=1)
    """The newest ones; the groups of journal records live as long as the oldest of them."""
    disk_quota_bytes: int | None = Field(default=None, ge=1)
    """Of the job's folder, checked before each checkpoint. None: as much as there is."""
    tokens_per_microbatch: int = Field(default=8192, ge=1)
    max_skipped_updates: int = Field(default=3, ge=0)
    """Updates that may be skipped for a non-finite loss or gradient before the job fails."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of the learner."""
    max_queued_bytes: int = Field(default=2**30, ge=2**20)
    """Bytes of groups that may wait in the streams, or one batch where that is more; no groups are issued above it."""
    mismatch_probe_every: int = Field(default=10, ge=0)
    """Steps between measurements of the engine mismatch on a group of its own, where no step has tokens that were
    sampled under the weights it starts from; keeps a copy of the weights in host memory meanwhile. 0: never."""
    wait_seconds: float = Field(default=600.0, gt=0)
    """Deadline of every wait on a machine: first batch, next batch, staleness."""
    stall_seconds: float = Field(default=300.0, gt=0)
    """A stage that takes longer is named in a warning event; a learner that trains or writes for longer than this and
    `wait_seconds` together is taken for hung and replaced."""

    @field_validator("corrections")
    @classmethod
    def _known_corrections(cls, value: dict[str, Any]) -> dict[str, Any]:
        return dataclasses.asdict(corrections_config(value))


class RewardSpec(StrictModel):
    """How completions are graded."""

    workers: int = Field(default=1, ge=0, le=256)
    timeout_seconds: float = Field(default=10.0, gt=0, le=3600)
    attempts: int = Field(default=3, ge=1, le=10)
    """Tries of one grader call before its group is dropped as `grader_failed`."""


class EvaluationSpec(StrictModel):
    """Evaluation on the validation file: outside the ledger, never trained on."""

    every: int = Field(default=10, ge=1)
    """Steps."""
    samples: int = Field(default=64, ge=1, le=65_536)
    """Rows of the validation file, the first ones."""
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    """0 is greedy."""


class WandbSpec(StrictModel):
    """A run at Weights & Biases, as `integrations` asks for it; the key is in the worker's environment."""

    project: str = Field(min_length=1, max_length=128)
    name: str | None = Field(default=None, max_length=128)
    entity: str | None = Field(default=None, max_length=128)
    tags: tuple[str, ...] = Field(default=(), max_length=64)


class SinksSpec(StrictModel):
    """Where step records go besides our own files. The learner's machine needs the packages (`sspo[sinks]`)."""

    tensorboard: bool = False
    """Event files in the job's folder, under `tensorboard/`."""


DEFAULT_GATE = {"gate": "logarctan_a", "sides": "outward", "tau_pos": 3.0, "tau_neg": 3.5}
"""SSPO's gate for a job that names none, chosen by measurement (docs/gates.md). A job that names a gate gets the class
defaults of `sspo_core`, the published structure, for what it leaves open."""


class ExtensionSpec(StrictModel):
    """The request's `x_sspo` block."""

    objective: dict[str, Any] = Field(default_factory=lambda: {"name": "sspo"}, validate_default=True)
    """Resolved: every field of the objective is named."""
    rollout: RolloutSpec = RolloutSpec()
    learner: LearnerSpec = LearnerSpec()
    reward: RewardSpec = RewardSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    guard: GuardSpec = GuardSpec()
    sinks: SinksSpec = SinksSpec()

    @model_validator(mode="after")
    def _a_throttle_has_something_to_tighten(self) -> ExtensionSpec:
        ahead = 0 if self.learner.synchronous else self.learner.max_staleness
        if "throttle" in self.guard.actions and ahead == 0 and self.learner.updates_per_step == 1:
            raise ValueError(
                "guard.actions: throttle has nothing to tighten in a job with one update a step and no staleness"
            )
        return self

    @model_validator(mode="after")
    def _uninformative_groups_are_told_by_their_group(self) -> ExtensionSpec:
        given = "advantage" in self.learner.model_fields_set
        kind = self.learner.advantage if given else objective_config(self.objective).advantage
        if self.learner.drop_uninformative_groups and kind == "batch_whitened":
            raise ValueError(
                "learner.drop_uninformative_groups: under batch_whitened advantages a group with equal rewards is "
                "compared with the other groups, and has a gradient"
            )
        return self

    @model_validator(mode="after")
    def _corrections_have_a_weight(self) -> ExtensionSpec:
        corrections = corrections_config(self.learner.corrections)
        weighs = corrections.importance != "full"
        if weighs and not self.learner.proximal_logprobs and objective_config(self.objective).has_ratio:
            raise ValueError(
                f"learner.corrections.importance: {corrections.importance!r} weighs proximal/behaviour, so it needs "
                "learner.proximal_logprobs: without them the objective's own ratio is policy/behaviour already"
            )
        if corrections.level == "token" and objective_config(self.objective).shares_ratio:
            raise ValueError("learner.corrections.level: the tokens of this objective share their ratios")
        return self

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, value: dict[str, Any]) -> dict[str, Any]:
        name = value.get("name", "sspo")
        if name == "sspo" and "gate" not in value:
            value = {**DEFAULT_GATE, **value}
        config = objective_config(value)
        missing = sorted(config.needs - SUPPLIED)
        if missing:
            raise ValueError(f"name: {name} needs {', '.join(missing)}, which the learner can't supply yet")
        return {"name": name, **dataclasses.asdict(config)}


class JobSpec(StrictModel):
    """Everything a worker needs to know of its job, resolved."""

    job_id: str
    model: str
    """Registered name."""
    training_file: str
    validation_file: str | None = None
    seed: int = Field(ge=0, lt=2**32)
    grader: dict[str, Any]
    """As the request gave it; `services.reward.graders` parses it."""
    objective: dict[str, Any]
    rollout: RolloutSpec
    learner: LearnerSpec
    reward: RewardSpec
    evaluation: EvaluationSpec | None = None
    """None without a validation file."""
    guard: GuardSpec = GuardSpec()
    sinks: SinksSpec = SinksSpec()
    wandb: WandbSpec | None = None
    """From the request's `integrations`."""


def derived_seed(*parts: int | str) -> int:
    """A 62-bit seed from its parts, the same on every machine: (job seed, group number), (job seed, step), ..."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 2

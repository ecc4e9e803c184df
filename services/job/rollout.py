"""`x_sspo.rollout`: how completions are sampled."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from services.job.base import StrictModel

SUPPORT_CHANGING = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


class RolloutSpec(StrictModel):
    """How completions are sampled. Temperature only: other knobs change the support and can't be replayed yet."""

    workers: int = Field(default=1, ge=0, le=256)
    """Rollout workers that the job starts with, each with an engine of its own. More of them sample more groups at
    once; `sspo job scale` changes the number while the job runs. 0: none until then."""
    group_size: int = Field(default=8, ge=1, le=1024)
    """Completions of one prompt (G), whose rewards are compared with each other. A larger group gives better
    advantages and costs more sampling a prompt; 1 leaves nothing to compare with."""
    temperature: float = Field(default=1.0, gt=0.0, le=10.0)
    """Sampling temperature. Lower it where completions are too wild to be graded, raise it where those of one group
    are all alike."""
    max_tokens: int = Field(default=64, ge=1, le=131_072)
    """Tokens of a completion at most; a longer one is cut there and graded as it is. Set it to what a good answer
    needs: memory and time of a group grow with it."""
    max_prompt_tokens: int = Field(default=1024, ge=1, le=131_072)
    """Tokens of a prompt at most; a row with a longer one fails the job before it starts. Raise it for long prompts,
    as far as the model's context allows."""
    concurrent_groups: int = Field(default=16, ge=1, le=1024)
    """Groups that one worker samples at once. Raise it while the engine has room for more; each takes part of
    `kv_cache_bytes`."""
    threads: int = Field(default=1, ge=1, le=256)
    """CPU threads of one engine. Raise it on a machine with idle cores; on a GPU it changes little."""
    kv_cache_bytes: int = Field(default=256 * 2**20, ge=2**20)
    """Bytes of the engine's key-value cache. Raise it for long completions or many concurrent groups: an engine whose
    cache is full makes groups wait."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the engine's weights. bfloat16 halves their memory and is quick on a GPU; it also widens the
    gap between the engine's log-probs and the learner's (`drift.mismatch`)."""
    drain_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Seconds in which a worker may finish its groups when it is paused or scaled away; then it hands them back.
    Raise it where one group takes longer than this."""

    @model_validator(mode="before")
    @classmethod
    def _temperature_only(cls, data: object) -> object:
        for name in SUPPORT_CHANGING:
            if isinstance(data, dict) and name in data:
                raise ValueError(
                    f"{name}: training samples by temperature only; truncated or penalised sampling changes the "
                    "support of the behaviour policy, which the learner cannot replay yet"
                )
        return data

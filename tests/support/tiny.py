"""A tiny causal model and groups sampled from it, for tests that need real log-probs but no engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from services.disk.layout import Layout
from services.job.spec import JobSpec, LearnerSpec, RewardSpec, RolloutSpec
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.record import JobRecord
from services.trajectories.codec import encode, floats, ints, mask
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan

VOCABULARY = 32
GRADER = {"type": "string_check", "name": "g", "input": "{{ sample.output_text }}", "reference": "1", "operation": "eq"}


def write_model(folder: Path, *, tied: bool = True, seed: int = 0) -> None:
    """A random Qwen2 of a few thousand parameters, as a plain folder."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=2,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def job_spec(job_id: str = "ftjob-1", **learner: Any) -> JobSpec:
    """A small job on the model `tiny`."""
    settings: dict[str, Any] = {"steps": 3, "batch_size": 2, "learning_rate": 1e-2, "checkpoint_every": 2, **learner}
    return JobSpec(
        job_id=job_id,
        model="tiny",
        training_file="file-1",
        seed=7,
        grader=GRADER,
        objective={"name": "sspo"},
        rollout=RolloutSpec(group_size=4, max_tokens=6),
        learner=LearnerSpec(**settings),
        reward=RewardSpec(),
    )


def create_job(client: Client, spec: JobSpec) -> None:
    """The record of a job, as the API would write it."""
    Jobs(client).create(
        JobRecord(
            id=spec.job_id,
            created_at=int(time.time()),
            request={"model": spec.model},
            spec=spec,
            rollout_workers=1,
            reward_workers=1,
        )
    )


def scored_group(layout: Layout, spec: JobSpec, number: int, *, step: int = 0, version: int = 1) -> bytes:
    """A group sampled from the model folder by Hugging Face, with a reward that prefers low token ids."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(layout.model(spec.model), dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1000 + number)
    prompt = [3 + number % 5, 4, 9]
    trajectories = []
    for _ in range(spec.rollout.group_size):
        tokens, logprobs = list(prompt), []
        for _ in range(spec.rollout.max_tokens):
            with torch.no_grad():
                row = model(torch.tensor([tokens])).logits[0, -1].float().log_softmax(-1)
            tokens.append(int(torch.multinomial(row.exp(), 1, generator=generator)))
            logprobs.append(float(row[tokens[-1]]))
        completion = tokens[len(prompt) :]
        trajectories.append(
            Trajectory(
                completion_token_ids=ints(completion),
                behaviour_logprobs=floats(logprobs),
                loss_mask=mask([1] * len(completion)),
                version_spans=[VersionSpan(version=version, step=step, start=0, end=len(completion))],
                stop_reason="length",
                reward=Reward(value=float(sum(token < 16 for token in completion))),
            )
        )
    task = PromptTask(
        schema_version=1,
        job_id=spec.job_id,
        group_number=number,
        prompt_token_ids=ints(prompt),
        item_json="{}",
        sampling=Sampling(temperature=1.0, max_tokens=6, seed=number, group_size=spec.rollout.group_size),
    )
    return encode(Group(schema_version=1, task=task, trajectories=trajectories))

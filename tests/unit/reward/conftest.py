"""A data folder with one registered tokenizer, and groups as a rollout worker would hand them over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from services.disk.layout import Layout
from services.job.spec import JobSpec, LearnerSpec, RewardSpec, RolloutSpec
from services.trajectories.codec import SCHEMA_VERSION, floats, ints, mask
from sspo_proto.trajectory_pb2 import Group, PromptTask, Sampling, Trajectory, VersionSpan

JOB, MODEL, STOP = "ftjob-reward", "bytes", "<|end|>"
EQUAL = {
    "type": "string_check",
    "name": "equal",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
CATASTROPHE = {"type": "regex_match", "name": "slow", "input": "{{sample.output_text}}", "pattern": "(a+)+$"}
ENDLESS = "a" * 64 + "b"


def byte_tokenizer() -> Tokenizer:
    """One token a byte, and one special token that ends a completion."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([STOP])
    return tokenizer


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("data"))
    folder = layout.models / MODEL
    folder.mkdir(parents=True)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": STOP}))
    return layout


@pytest.fixture
def make_spec() -> Callable[..., JobSpec]:
    def make(grader: dict[str, Any] = EQUAL, drain_seconds: float = 30.0, **reward: Any) -> JobSpec:
        return JobSpec(
            job_id=JOB,
            model=MODEL,
            training_file="file-1",
            seed=1,
            grader=grader,
            objective={"name": "sspo"},
            rollout=RolloutSpec(drain_seconds=drain_seconds),
            learner=LearnerSpec(),
            reward=RewardSpec(**reward),
        )

    return make


@pytest.fixture
def make_group() -> Callable[..., Group]:
    tokenizer = byte_tokenizer()

    def make(number: int, *texts: str, **item: Any) -> Group:
        sampling = Sampling(
            temperature=1.0, max_tokens=99, group_size=len(texts), stop_token_ids=[tokenizer.token_to_id(STOP)]
        )
        task = PromptTask(
            schema_version=SCHEMA_VERSION,
            job_id=JOB,
            group_number=number,
            prompt_token_ids=ints([1, 2]),
            item_json=json.dumps(item),
            sampling=sampling,
        )
        trajectories = [_trajectory(tokenizer.encode(text + STOP).ids) for text in texts]
        return Group(schema_version=SCHEMA_VERSION, task=task, trajectories=trajectories, rollout_worker="rollout-1")

    return make


def _trajectory(ids: list[int]) -> Trajectory:
    return Trajectory(
        completion_token_ids=ints(ids),
        behaviour_logprobs=floats([-0.5] * len(ids)),
        loss_mask=mask([1] * len(ids)),
        version_spans=[VersionSpan(version=1, step=0, start=0, end=len(ids))],
        stop_reason="stop",
    )

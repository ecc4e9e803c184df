"""Sampling in plain torch from a snapshot of the policy, as groups that the learner takes.

All prompts have one length, so a batch needs no padding: prompts go through the model once, their cache is repeated for
the members of the group, and completions are drawn token by token. Behaviour log-probs are those of the distribution
that was drawn from. A completion ends with its end token or at `max_tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.trajectories.codec import SCHEMA_VERSION, floats, ints, mask
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan


@dataclass(frozen=True)
class Question:
    """A prompt, and the one completion that is right (end token included)."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Snapshot:
    """The policy's weights as they were when the learner was about to train step `step`."""

    step: int
    tensors: Mapping[str, Tensor]


def exact(question: Question, tokens: Sequence[int]) -> float:
    """1 for the right answer."""
    return float(list(tokens) == question.answer)


Grade = Callable[[Question, Sequence[int]], float]


class Sampler:
    """A model of its own, so that sampling never touches the policy that is trained."""

    def __init__(self, model: Any, group_size: int, max_tokens: int, grade: Grade = exact) -> None:
        self.model = model
        """Holds the weights of the snapshot that was sampled last."""
        self._grade = grade
        self._group_size = group_size
        self._max_tokens = max_tokens
        self._end = int(model.config.eos_token_id)

    def groups(self, snapshot: Snapshot, asked: Sequence[Question], generator: torch.Generator) -> list[Group]:
        """One graded group for each question, sampled at temperature 1 under the snapshot alone."""
        self.model.load_state_dict(snapshot.tensors)
        tokens_BT, logprobs_BT = self._draw(torch.tensor([one.prompt for one in asked]), generator)
        members = zip(tokens_BT.tolist(), logprobs_BT.tolist(), strict=True)
        return [
            self._group(number, one, [next(members) for _ in range(self._group_size)], snapshot.step)
            for number, one in enumerate(asked)
        ]

    def distribution(self, logits: Tensor) -> Tensor:
        """Log-probs of what is drawn from, and answered."""
        return logits.log_softmax(-1)

    @torch.no_grad()
    def _draw(self, prompts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tokens and log-probs [prompts · group_size, max_tokens]."""
        outputs = self.model(input_ids=prompts, use_cache=True, logits_to_keep=1)
        cache = outputs.past_key_values
        cache.batch_repeat_interleave(self._group_size)
        logits = outputs.logits[:, -1].repeat_interleave(self._group_size, dim=0)
        tokens, logprobs = [], []
        for place in range(self._max_tokens):
            log_p = self.distribution(logits)
            token = torch.multinomial(log_p.exp(), 1, generator=generator)
            tokens.append(token)
            logprobs.append(log_p.gather(1, token))
            if place + 1 < self._max_tokens:
                logits = self.model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1]
        return torch.cat(tokens, dim=1), torch.cat(logprobs, dim=1)

    def _group(
        self, number: int, question: Question, members: Sequence[tuple[list[int], list[float]]], step: int
    ) -> Group:
        task = PromptTask(
            schema_version=SCHEMA_VERSION,
            job_id="testbed",
            group_number=number,
            prompt_token_ids=ints(question.prompt),
            sampling=Sampling(temperature=1.0, max_tokens=self._max_tokens, group_size=self._group_size),
            issued_step=step,
        )
        trajectories = [self._trajectory(question, tokens, logprobs, step) for tokens, logprobs in members]
        return Group(schema_version=SCHEMA_VERSION, task=task, trajectories=trajectories)

    def _trajectory(self, question: Question, tokens: list[int], logprobs: list[float], step: int) -> Trajectory:
        ended = self._end in tokens
        length = tokens.index(self._end) + 1 if ended else len(tokens)
        return Trajectory(
            completion_token_ids=ints(tokens[:length]),
            behaviour_logprobs=floats(logprobs[:length]),
            loss_mask=mask([1] * length),
            version_spans=[VersionSpan(version=step, step=step, start=0, end=length)],
            stop_reason="stop" if ended else "length",
            reward=Reward(value=self._grade(question, tokens[:length])),
        )

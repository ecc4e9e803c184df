"""Groups to tensors: micro-batches under a token budget.

Layout of a row: left padding, prompt, completion, right padding, so that completions of all rows start at the same
column and only their logits are computed. Everything is decided by the groups alone (no randomness), so that a replay
builds the same tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.trajectories.codec import read_floats, read_ints, read_mask
from sspo_proto.trajectory_pb2 import Group


@dataclass(frozen=True)
class TrainingSequence:
    """One trajectory, ready for training."""

    prompt_token_ids: Tensor
    completion_token_ids: Tensor
    behaviour_logprobs: Tensor
    loss_mask: Tensor
    advantage: float
    staleness: int

    @property
    def tokens(self) -> int:
        return len(self.prompt_token_ids) + len(self.completion_token_ids)


@dataclass(frozen=True)
class MicroBatch:
    """Padded tensors of B rows: P prompt columns, T completion columns."""

    input_ids: Tensor
    """[B, P + T] int64."""
    attention_mask: Tensor
    """[B, P + T] int64, 0 on padding."""
    completion_ids: Tensor
    """[B, T] int64."""
    behaviour_logprobs: Tensor
    """[B, T] float32, 0 on padding."""
    mask: Tensor
    """[B, T] bool: action tokens."""
    advantages: Tensor
    """[B] float32."""
    staleness: Tensor
    """[B] int64, steps."""

    def to(self, device: torch.device) -> MicroBatch:
        return MicroBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


def sequences(group: Group, advantages: Sequence[float], step: int) -> list[TrainingSequence]:
    """The trajectories of a group with their advantages; staleness counted at `step`."""
    prompt = torch.tensor(read_ints(group.task.prompt_token_ids), dtype=torch.int64)
    rows = []
    for trajectory, advantage in zip(group.trajectories, advantages, strict=True):
        oldest = min(span.step for span in trajectory.version_spans)
        rows.append(
            TrainingSequence(
                prompt_token_ids=prompt,
                completion_token_ids=torch.tensor(read_ints(trajectory.completion_token_ids), dtype=torch.int64),
                behaviour_logprobs=torch.tensor(read_floats(trajectory.behaviour_logprobs)),
                loss_mask=torch.tensor(read_mask(trajectory.loss_mask)).bool(),
                advantage=float(advantage),
                staleness=max(0, step - oldest),
            )
        )
    return rows


def micro_batches(rows: Sequence[TrainingSequence], token_budget: int) -> Iterator[MicroBatch]:
    """Rows of similar length together, each micro-batch at most `token_budget` padded tokens (or one row)."""
    ordered = sorted(range(len(rows)), key=lambda i: (rows[i].tokens, i))
    chosen: list[TrainingSequence] = []
    prompt = completion = 0
    for index in ordered:
        row = rows[index]
        wider = max(prompt, len(row.prompt_token_ids)) + max(completion, len(row.completion_token_ids))
        if chosen and wider * (len(chosen) + 1) > token_budget:
            yield _pad(chosen)
            chosen, prompt, completion = [], 0, 0
        chosen.append(row)
        prompt = max(prompt, len(row.prompt_token_ids))
        completion = max(completion, len(row.completion_token_ids))
    if chosen:
        yield _pad(chosen)


def _pad(rows: Sequence[TrainingSequence]) -> MicroBatch:
    prompt = max(len(row.prompt_token_ids) for row in rows)
    completion = max(len(row.completion_token_ids) for row in rows)
    size = len(rows)
    input_ids = torch.zeros(size, prompt + completion, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    behaviour = torch.zeros(size, completion)
    mask = torch.zeros(size, completion, dtype=torch.bool)
    for i, row in enumerate(rows):
        start, length = prompt - len(row.prompt_token_ids), len(row.completion_token_ids)
        input_ids[i, start:prompt] = row.prompt_token_ids
        input_ids[i, prompt : prompt + length] = row.completion_token_ids
        attention_mask[i, start : prompt + length] = 1
        behaviour[i, :length] = row.behaviour_logprobs
        mask[i, :length] = row.loss_mask
    return MicroBatch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        completion_ids=input_ids[:, prompt:].clone(),
        behaviour_logprobs=behaviour,
        mask=mask,
        advantages=torch.tensor([row.advantage for row in rows]),
        staleness=torch.tensor([row.staleness for row in rows]),
    )

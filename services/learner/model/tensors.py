"""Groups to tensors: micro-batches under a token budget.

A sequence is prompt and completion; how sequences lie together is `sspo_core.packing`'s business. The model sees all
of a micro-batch's tokens, the loss only its completions: `positions` are the places whose next token is one of a
completion. Everything is decided by the groups alone (no randomness), so that a replay builds the same tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from services.trajectories.codec import read_floats, read_ints, read_mask
from sspo_core import packing
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
    """Steps."""
    group: int
    """Place of its group in the batch."""
    member: int
    """Its place in the group."""
    proximal_logprobs: Tensor | None = None
    """Of the policy at the start of the step, where they are asked for."""

    @property
    def tokens(self) -> int:
        return len(self.prompt_token_ids) + len(self.completion_token_ids)


@dataclass(frozen=True)
class MicroBatch:
    """B sequences: tokens as the model takes them, the rest [B, T] with T the longest completion."""

    plan: packing.RowPlan
    input_ids: Tensor
    """int64 of the plan's shape."""
    position_ids: Tensor
    """int64 of the plan's shape."""
    positions: Tensor
    """[N] int64, into the flattened `input_ids`: where the next token is one of a completion."""
    targets: Tensor
    """[N] int64: those tokens."""
    completion_lengths: tuple[int, ...]
    """[B], summing to N."""
    behaviour_logprobs: Tensor
    """[B, T] float32, 0 on padding."""
    mask: Tensor
    """[B, T] bool: action tokens."""
    advantages: Tensor
    """[B] float32."""
    staleness: tuple[int, ...]
    """[B], steps; on the host, since it only sorts the diagnostics."""
    groups: tuple[int, ...]
    """[B], places of the sequences' groups in the batch."""
    members: tuple[int, ...]
    """[B], places of the sequences in their groups."""
    proximal_logprobs: Tensor | None = None
    """[B, T]."""

    def to(self, device: torch.device) -> MicroBatch:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def padded(self, values: Tensor) -> Tensor:
        """[N] values of completion tokens as [B, T], 0 on padding."""
        return _pad(torch.split(values, list(self.completion_lengths)))

    def of_first_group(self) -> list[tuple[int, int]]:
        """(row, place in its group) of the sequences of the batch's first group."""
        return [(row, self.members[row]) for row, group in enumerate(self.groups) if group == 0]

    def kernel_arguments(self) -> dict[str, Any]:
        """Arguments by which a variable-length attention kernel keeps the sequences of a pack apart."""
        if self.plan.layout == "padded":
            return {}
        edges = self.plan.cu_seqlens(self.input_ids.device)
        longest = self.plan.longest
        return {"cu_seq_lens_q": edges, "cu_seq_lens_k": edges, "max_length_q": longest, "max_length_k": longest}


def sequences(group: Group, advantages: Sequence[float], step: int, *, place: int = 0) -> list[TrainingSequence]:
    """The trajectories of a group with their advantages; staleness counted at `step`, the group at `place`."""
    prompt = torch.tensor(read_ints(group.task.prompt_token_ids), dtype=torch.int64)
    rows = []
    for member, (trajectory, advantage) in enumerate(zip(group.trajectories, advantages, strict=True)):
        oldest = min(span.step for span in trajectory.version_spans)
        rows.append(
            TrainingSequence(
                prompt_token_ids=prompt,
                completion_token_ids=torch.tensor(read_ints(trajectory.completion_token_ids), dtype=torch.int64),
                behaviour_logprobs=torch.tensor(read_floats(trajectory.behaviour_logprobs)),
                loss_mask=torch.tensor(read_mask(trajectory.loss_mask)).bool(),
                advantage=float(advantage),
                staleness=max(0, step - oldest),
                group=place,
                member=member,
            )
        )
    return rows


def micro_batches(
    rows: Sequence[TrainingSequence], token_budget: int, layout: packing.Layout = "padded"
) -> Iterator[MicroBatch]:
    """Every row once, with the least padding under `token_budget` tokens (or one longer row)."""
    for plan in packing.plan([row.tokens for row in rows], token_budget, layout):
        yield _lay(plan, rows)


def _lay(plan: packing.RowPlan, rows: Sequence[TrainingSequence]) -> MicroBatch:
    chosen = [rows[index] for index in plan.rows]
    proximal = [row.proximal_logprobs for row in chosen if row.proximal_logprobs is not None]
    return MicroBatch(
        plan=plan,
        input_ids=plan.lay([torch.cat([row.prompt_token_ids, row.completion_token_ids]) for row in rows]),
        position_ids=plan.position_ids(),
        positions=torch.cat([_places(row, start) for row, start in zip(chosen, _starts(plan), strict=True)]),
        targets=torch.cat([row.completion_token_ids for row in chosen]),
        completion_lengths=tuple(len(row.completion_token_ids) for row in chosen),
        behaviour_logprobs=_pad([row.behaviour_logprobs for row in chosen]),
        mask=_pad([row.loss_mask for row in chosen]),
        advantages=torch.tensor([row.advantage for row in chosen]),
        staleness=tuple(row.staleness for row in chosen),
        groups=tuple(row.group for row in chosen),
        members=tuple(row.member for row in chosen),
        proximal_logprobs=_pad(proximal) if proximal else None,
    )


def _starts(plan: packing.RowPlan) -> list[int]:
    """Where each sequence begins in the flattened layout."""
    if plan.layout == "padded":
        return [row * plan.longest for row in range(len(plan.rows))]
    return [0, *accumulate(plan.lengths[:-1])]


def _places(row: TrainingSequence, start: int) -> Tensor:
    first = start + len(row.prompt_token_ids) - 1
    return torch.arange(first, first + len(row.completion_token_ids))


def _pad(rows: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)

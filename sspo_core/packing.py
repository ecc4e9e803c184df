"""Sequences into micro-batches under a token budget, and back.

`plan` decides which sequences go together, from their lengths alone (the same lengths always give the same plan);
`RowPlan` lays tensors out by it and takes results apart again; `restore` puts them into the order of the input. A
sequence longer than the budget gets a micro-batch of its own.

Two layouts. "padded" is [rows, longest], for every attention kernel: rows of similar length go together. "packed" is
[1, total], sequences end to end with position ids that start again at 0: it has no padding, and needs a kernel that
keeps the sequences apart by `cu_seqlens`. `layout_for` says which a kernel takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Layout = Literal["padded", "packed"]

VARIABLE_LENGTH_KERNELS = ("flash_attention", "kernels-community/flash-attn", "kernels-community/vllm-flash-attn")
"""How the names of attention kernels begin that take `cu_seqlens`. A kernel that is given a mask instead (eager, sdpa)
would compute all pairs of tokens of a pack, which costs more than padding does."""


def layout_for(attention: str) -> Layout:
    """The layout for an attention kernel by its Hugging Face name, such as "sdpa" or "flash_attention_2"."""
    return "packed" if attention.startswith(VARIABLE_LENGTH_KERNELS) else "padded"


@dataclass(frozen=True)
class RowPlan:
    """A plan of one micro-batch: its sequences, their order, and their place in a tensor."""

    rows: tuple[int, ...]
    """Indices of the sequences among those given to `plan`."""
    lengths: tuple[int, ...]
    """Their lengths, in the same order."""
    layout: Layout

    @property
    def shape(self) -> tuple[int, int]:
        """[rows, longest] if padded, [1, total] if packed."""
        return (1, sum(self.lengths)) if self.layout == "packed" else (len(self.rows), max(self.lengths))

    @property
    def tokens(self) -> int:
        """Positions that are computed, padding included."""
        return self.shape[0] * self.shape[1]

    @property
    def longest(self) -> int:
        """Length of the longest sequence: `max_length_q` and `max_length_k` of variable-length kernels."""
        return max(self.lengths)

    def lay(self, sequences: Sequence[Tensor], fill: float = 0) -> Tensor:
        """One tensor of `shape` (+ trailing dimensions) from the sequences given to `plan`, each [length, ...].

        `fill` is for padding, which lies on the right. Raises ValueError when a sequence doesn't have its length.
        """
        chosen = [sequences[row] for row in self.rows]
        if tuple(len(sequence) for sequence in chosen) != self.lengths:
            raise ValueError(f"sequences: lengths must be {self.lengths}, got {tuple(len(s) for s in chosen)}")
        if self.layout == "packed":
            return torch.cat(chosen).unsqueeze(0)
        return torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=fill)

    def take(self, laid: Tensor) -> list[Tensor]:
        """The sequences again, in the order of `rows`: the inverse of `lay`, and views, so that gradients flow."""
        if laid.shape[:2] != self.shape:
            raise ValueError(f"laid: must be {self.shape}, got {tuple(laid.shape)}")
        if self.layout == "packed":
            return list(torch.split(laid[0], list(self.lengths)))
        return [row[:length] for row, length in zip(laid, self.lengths, strict=True)]

    def padded(self, laid: Tensor, fill: float = 0) -> Tensor:
        """[rows, longest, ...], which is what a loss takes, from either layout."""
        if self.layout == "padded":
            return laid
        return torch.nn.utils.rnn.pad_sequence(self.take(laid), batch_first=True, padding_value=fill)

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Boolean of `shape`: False on padding."""
        lengths = torch.tensor(self.lengths, device=device).unsqueeze(1)
        inside = torch.arange(self.longest, device=device).unsqueeze(0) < lengths
        return inside if self.layout == "padded" else torch.ones(self.shape, dtype=torch.bool, device=device)

    def position_ids(self, device: torch.device | str | None = None) -> Tensor:
        """int64 of `shape`, from 0 in every sequence; padding counts on."""
        if self.layout == "padded":
            return torch.arange(self.longest, device=device).expand(self.shape)
        return torch.cat([torch.arange(length, device=device) for length in self.lengths]).unsqueeze(0)

    def cu_seqlens(self, device: torch.device | str | None = None) -> Tensor:
        """int32 [rows + 1]: where every sequence of a pack begins, and where the last ends."""
        starts = torch.zeros(len(self.rows) + 1, dtype=torch.int32)
        starts[1:] = torch.tensor(self.lengths).cumsum(0)
        return starts.to(device)


def plan(
    lengths: Sequence[int], token_budget: int, layout: Layout = "padded", *, launch_tokens: int = 64
) -> list[RowPlan]:
    """Micro-batches that hold every sequence once, each at most `token_budget` tokens with its padding.

    Padded: the cheapest split, if a computed token costs 1 and a micro-batch `launch_tokens`. Only splits of the
    sequences in order of length are tried. Others can't be cheaper: move the longest rows of two micro-batches into one
    of them, and neither gets longer. Packed: first fit, longest first. Raises ValueError naming the argument.
    """
    if layout not in get_args(Layout):
        raise ValueError(f"layout: must be one of {', '.join(get_args(Layout))}; got {layout!r}")
    if token_budget < 1:
        raise ValueError(f"token_budget: must be at least 1, got {token_budget!r}")
    if any(length < 1 for length in lengths):
        raise ValueError(f"lengths: must be at least 1, got {min(lengths)!r}")
    if launch_tokens < 0:
        raise ValueError(f"launch_tokens: must not be negative, got {launch_tokens!r}")
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    if layout == "padded":
        parts: Sequence[Sequence[int]] = _cheapest_split(order, lengths, token_budget, launch_tokens)
    else:
        parts = _first_fit(order, lengths, token_budget)
    return [RowPlan(tuple(rows), tuple(lengths[row] for row in rows), layout) for rows in parts]


def restore(micro_batches: Sequence[RowPlan], results: Sequence[Tensor]) -> list[Tensor]:
    """Results of every micro-batch, laid out as its inputs were, as one tensor per sequence in the order of `plan`."""
    found: dict[int, Tensor] = {}
    for micro_batch, laid in zip(micro_batches, results, strict=True):
        found |= zip(micro_batch.rows, micro_batch.take(laid), strict=True)
    return [found[row] for row in range(len(found))]


def _cheapest_split(
    order: Sequence[int], lengths: Sequence[int], token_budget: int, launch_tokens: int
) -> list[Sequence[int]]:
    """Here `order` is by length. cost[i] is the cost of the best split of the first i rows, and its last part begins at
    first[i]."""
    cost = torch.zeros(len(order) + 1, dtype=torch.int64)
    places = torch.arange(len(order) + 1)
    first = [0] * (len(order) + 1)
    for end, row in enumerate(order, start=1):
        longest = lengths[row]
        start = max(0, end - max(1, token_budget // longest))
        candidates = cost[start:end] + (end - places[start:end]) * longest
        best = int(candidates.argmin())
        cost[end] = candidates[best] + launch_tokens
        first[end] = start + best
    parts = []
    end = len(order)
    while end > 0:
        parts.append(order[first[end] : end])
        end = first[end]
    return parts[::-1]


def _first_fit(order: Sequence[int], lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    packs: list[list[int]] = []
    room: list[int] = []
    for row in reversed(order):
        place = next((i for i, left in enumerate(room) if left >= lengths[row]), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(token_budget)
        packs[place].append(row)
        room[place] -= lengths[row]
    return packs

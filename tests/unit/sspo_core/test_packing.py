"""Micro-batches under a token budget: nothing lost, nothing mixed up, and no cheaper split exists."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from sspo_core.config import OBJECTIVES
from sspo_core.losses import policy_loss
from sspo_core.packing import Layout, RowPlan, layout_for, plan, restore
from sspo_core.types import Denominators, LossInputs
from tests.unit.sspo_core.batches import MODEST

LAYOUTS = get_args(Layout)
LENGTHS = st.lists(st.integers(1, 40), max_size=30)


@MODEST
@given(lengths=LENGTHS, budget=st.integers(1, 120), layout=st.sampled_from(LAYOUTS))
def test_every_sequence_once_within_the_budget(lengths: list[int], budget: int, layout: Layout) -> None:
    micro_batches = plan(lengths, budget, layout)
    assert sorted(row for m in micro_batches for row in m.rows) == list(range(len(lengths)))
    for m in micro_batches:
        assert m.lengths == tuple(lengths[row] for row in m.rows)
        assert m.tokens <= budget or len(m.rows) == 1
    assert micro_batches == plan(lengths, budget, layout)


@MODEST
@given(lengths=LENGTHS, budget=st.integers(1, 120), layout=st.sampled_from(LAYOUTS), width=st.integers(0, 3))
def test_laying_out_has_an_exact_inverse(lengths: list[int], budget: int, layout: Layout, width: int) -> None:
    generator = torch.Generator().manual_seed(len(lengths))
    sequences = [torch.randn((n, width) if width else (n,), generator=generator) for n in lengths]
    micro_batches = plan(lengths, budget, layout)
    laid = [m.lay(sequences, fill=float("nan")) for m in micro_batches]
    for m, tensor in zip(micro_batches, laid, strict=True):
        assert tensor.shape[:2] == m.shape == m.mask().shape == m.position_ids().shape
        assert int(m.mask().sum()) == sum(m.lengths)
        assert torch.equal(torch.isnan(tensor).reshape(*m.shape, -1).any(-1), ~m.mask()) or width == 0
        again = m.lay(dict(zip(m.rows, m.take(tensor), strict=True)), fill=float("nan"))
        assert torch.equal(again.nan_to_num(), tensor.nan_to_num())
    restored = restore(micro_batches, laid)
    assert len(restored) == len(sequences)
    assert all(torch.equal(a, b) for a, b in zip(restored, sequences, strict=True))


@MODEST
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), budget=st.integers(1, 40), launch=st.integers(0, 9)
)
def test_no_padded_split_is_cheaper(lengths: list[int], budget: int, launch: int) -> None:
    """Against all partitions of the sequences, whatever their order."""

    def cost(parts: list[list[int]]) -> float:
        sizes = [len(part) * max(part) for part in parts]
        allowed = all(size <= budget or len(part) == 1 for size, part in zip(sizes, parts, strict=True))
        return sum(sizes) + launch * len(parts) if allowed else float("inf")

    def partitions(rest: list[int]) -> Any:
        if not rest:
            yield []
            return
        for smaller in partitions(rest[1:]):
            yield [[rest[0]], *smaller]
            for i in range(len(smaller)):
                yield [*smaller[:i], [rest[0], *smaller[i]], *smaller[i + 1 :]]

    chosen = plan(lengths, budget, launch_tokens=launch)
    assert sum(m.tokens for m in chosen) + launch * len(chosen) == min(map(cost, partitions(lengths)))


def test_log_normal_lengths_leave_little_padding() -> None:
    """Against micro-batches of 16 as they come, padded to their longest."""
    drawn = torch.exp(torch.randn(512, generator=torch.Generator().manual_seed(0)) + torch.tensor(96.0).log())
    lengths = drawn.long().clamp(1, 512).tolist()
    as_they_come = sum(16 * max(lengths[i : i + 16]) for i in range(0, 512, 16))
    for layout in LAYOUTS:
        chosen = plan(lengths, 4096, layout)
        assert sum(m.tokens for m in chosen) <= 1.05 * sum(lengths) < 0.5 * as_they_come
    assert len(plan(lengths, 4096, "packed")) <= -(-sum(lengths) // 4096) + 1


def test_packs_say_where_sequences_begin() -> None:
    (m,) = plan([3, 1, 4], 8, "packed")
    assert (m.rows, m.shape, m.longest) == ((2, 0, 1), (1, 8), 4)
    assert m.cu_seqlens().tolist() == [0, 4, 7, 8] and m.cu_seqlens().dtype == torch.int32
    assert m.position_ids().tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]
    ids = [torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6, 7, 8])]
    assert m.lay(ids).tolist() == [[5, 6, 7, 8, 1, 2, 3, 4]]
    assert m.padded(m.lay(ids), fill=-1).tolist() == [[5, 6, 7, 8], [1, 2, 3, -1], [4, -1, -1, -1]]


class Tiny(torch.nn.Module):
    """A causal model of one attention layer, which looks at each sequence of a pack by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.position = torch.nn.Embedding(11, 8), torch.nn.Embedding(64, 8)
        self.project, self.head = torch.nn.Linear(8, 24), torch.nn.Linear(8, 11)
        self.double()

    def forward(self, ids: Tensor, m: RowPlan) -> Tensor:
        hidden = self.embed(ids) + self.position(m.position_ids())
        q, k, v = self.project(hidden).chunk(3, dim=-1)
        edges = m.cu_seqlens().tolist() if m.layout == "packed" else [0, m.shape[1]]
        parts = [
            scaled_dot_product_attention(*(x[:, None, start:end] for x in (q, k, v)), is_causal=True)[:, 0]
            for start, end in itertools.pairwise(edges)
        ]
        out: Tensor = self.head(hidden + torch.cat(parts, dim=1))
        return out


@pytest.mark.parametrize("name", ["sspo", "grpo", "gspo", "gmpo"])
def test_packed_is_padded_is_one_by_one(name: str) -> None:
    """Loss and gradient of the parameters don't depend on how the sequences lie."""
    generator = torch.Generator().manual_seed(1)
    lengths = [9, 2, 5, 5, 1, 7, 3, 9]
    ids = [torch.randint(0, 11, (n,), generator=generator) for n in lengths]
    behaviour = [-2.0 - torch.rand(n, generator=generator, dtype=torch.float64) for n in lengths]
    masks = [torch.rand(n, generator=generator) < 0.7 for n in lengths]
    advantages = torch.randn(len(lengths), generator=generator, dtype=torch.float64)
    counts = [int(mask.sum()) for mask in masks]
    denominators = Denominators(tokens=sum(counts), sequences=sum(count > 0 for count in counts))

    def outcome(budget: int, layout: Layout) -> list[Tensor]:
        model, total = Tiny(), torch.zeros((), dtype=torch.float64)
        for m in plan(lengths, budget, layout):
            laid = m.lay(ids)
            logprobs = model(laid, m).log_softmax(-1).gather(-1, laid.unsqueeze(-1)).squeeze(-1)
            inputs = LossInputs(
                policy_logprobs=m.padded(logprobs),
                behaviour_logprobs=m.padded(m.lay(behaviour)),
                advantages=advantages[list(m.rows)],
                mask=m.padded(m.lay(masks)),
                denominators=denominators,
            )
            total = total + policy_loss(inputs, OBJECTIVES[name]()).loss
        total.backward()
        return [total.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]

    one_by_one = outcome(1, "padded")
    for budget, layout in ((1000, "padded"), (20, "padded"), (1000, "packed"), (16, "packed")):
        for ours, theirs in zip(outcome(budget, layout), one_by_one, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_layout_follows_the_attention_kernel() -> None:
    kernels = ["sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3"]
    assert [layout_for(kernel) for kernel in kernels] == ["padded"] * 3 + ["packed"] * 2


@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("layout", {"layout": "nested"}),
        ("token_budget", {"token_budget": 0}),
        ("lengths", {"lengths": [3, 0]}),
        ("launch_tokens", {"launch_tokens": -1}),
    ],
)
def test_bad_arguments_are_named(named: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{named}:"):
        plan(**({"lengths": [1, 2], "token_budget": 8} | arguments))


def test_tensors_that_do_not_fit_are_refused() -> None:
    (m,) = plan([2, 3], 8)
    with pytest.raises(ValueError, match=r"^sequences:"):
        m.lay([torch.zeros(3), torch.zeros(3)])
    with pytest.raises(ValueError, match=r"^laid:"):
        m.take(torch.zeros(2, 4))

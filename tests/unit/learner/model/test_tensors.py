"""Micro-batches: every completion token once, at the place that predicts it, whatever the layout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.learner.model.tensors import TrainingSequence, micro_batches
from sspo_core.packing import Layout

ROWS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=9)


def row(number: int, prompt: int, completion: int) -> TrainingSequence:
    """Every token names its row and place."""
    tokens = torch.arange(prompt + completion) + 100 * number
    return TrainingSequence(
        prompt_token_ids=tokens[:prompt],
        completion_token_ids=tokens[prompt:],
        behaviour_logprobs=-tokens[prompt:].float(),
        loss_mask=torch.arange(completion) % 2 == 0,
        advantage=float(number),
        staleness=number % 3,
        group=number // 2,
        member=number % 2,
        proximal_logprobs=-2 * tokens[prompt:].float(),
    )


@settings(max_examples=60, deadline=None)
@given(shapes=ROWS, budget=st.integers(1, 40), layout=st.sampled_from(["padded", "packed"]))
def test_every_token_is_where_its_neighbours_say(shapes: list[tuple[int, int]], budget: int, layout: Layout) -> None:
    rows = [row(number, *shape) for number, shape in enumerate(shapes)]
    seen: list[int] = []
    for batch in micro_batches(rows, budget, layout):
        assert batch.plan.tokens <= budget or len(batch.plan.rows) == 1
        assert batch.input_ids.shape == batch.position_ids.shape == batch.plan.shape
        before = batch.input_ids.flatten()[batch.positions]
        assert torch.equal(before + 1, batch.targets), "the token before the one that is predicted"
        assert torch.equal(batch.position_ids.flatten()[batch.positions], before % 100)
        padded = batch.padded(batch.targets.float())
        inside = padded > 0
        assert torch.equal(batch.behaviour_logprobs[inside], -padded[inside])
        assert batch.proximal_logprobs is not None
        assert torch.equal(batch.proximal_logprobs[inside], -2 * padded[inside])
        assert not (batch.mask & ~inside).any()
        for place, index in enumerate(batch.plan.rows):
            assert batch.advantages[place] == rows[index].advantage
            assert batch.staleness[place] == rows[index].staleness
            assert (batch.groups[place], batch.members[place]) == (rows[index].group, rows[index].member)
            assert torch.equal(batch.mask[place][: len(rows[index].loss_mask)], rows[index].loss_mask)
        seen += batch.plan.rows
    assert sorted(seen) == list(range(len(rows)))


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_a_kernel_learns_where_sequences_begin(layout: Layout) -> None:
    [batch] = micro_batches([row(0, 2, 3), row(1, 1, 3)], 100, layout)
    arguments = batch.kernel_arguments()
    if layout == "padded":
        assert arguments == {}
    else:
        assert arguments["cu_seq_lens_q"].tolist() == [0, 5, 9] and arguments["max_length_k"] == 5

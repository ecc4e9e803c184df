"""log Z as state of the objective: its shape, its determinism, and that it learns what balances."""

from __future__ import annotations

import pytest
import torch

from sspo_core.config import FlowRLConfig
from sspo_core.losses import policy_loss
from sspo_core.objectives.flowrl import LogPartition, mean_prompt_states
from sspo_core.types import LossInputs


def test_shape_and_state() -> None:
    torch.manual_seed(0)
    head = LogPartition(16)
    states = torch.randn(5, 16)
    assert head(states).shape == (5,)
    again = LogPartition(16)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(states), head(states)) and torch.equal(head(states), head(states))
    assert LogPartition(16, layers=1)(states).shape == (5,)


@pytest.mark.parametrize(("named", "arguments"), [("hidden_size", (0, 3)), ("layers", (4, 0))])
def test_bad_arguments_are_named(named: str, arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"^{named}:"):
        LogPartition(*arguments)


def test_mean_over_the_prompt_alone() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [float("nan")]], [[float("inf")], [7.0], [9.0]], [[1.0], [1.0], [1.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert mean_prompt_states(hidden, mask).tolist() == [[2.0], [9.0], [0.0]]


def test_it_learns_the_partition_of_each_prompt() -> None:
    """A policy that stays: log Z moves to the mean of β·A + log π_ref − log π over the answers of its prompt."""
    torch.manual_seed(1)
    prompts = torch.randn(3, 8).repeat_interleave(4, dim=0)
    logprobs, reference = -torch.rand(12, 6), -torch.rand(12, 6)
    advantages, mask = torch.randn(12), torch.ones(12, 6, dtype=torch.bool)
    config, head = FlowRLConfig(beta=2.0), LogPartition(8)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(150):
        inputs = LossInputs(
            logprobs, logprobs, advantages, mask, reference_logprobs=reference, log_partition=head(prompts)
        )
        optimiser.zero_grad()
        policy_loss(inputs, config).loss.backward()
        optimiser.step()
    target = (2.0 * advantages + reference.mean(1) - logprobs.mean(1)).reshape(3, 4).mean(1)
    torch.testing.assert_close(head(prompts).reshape(3, 4)[:, 0].detach(), target, rtol=0, atol=0.02)

"""Log-probs of the policy: the same from every layout and either head, as the full logits say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from services.learner.model.policy import Policy
from services.learner.model.tensors import TrainingSequence, micro_batches
from tests.support.tiny import VOCABULARY, write_model

TEMPERATURE = 0.7
CPU = torch.device("cpu")
BY_EDGES = "flash_attention_by_edges"


def rows() -> list[TrainingSequence]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for prompt, completion in ((2, 5), (4, 1), (1, 7), (3, 3)):
        tokens = torch.randint(0, VOCABULARY, (prompt + completion,), generator=generator)
        empty = torch.zeros(completion)
        made.append(TrainingSequence(tokens[:prompt], tokens[prompt:], empty, empty.bool(), 0.0, 0, 0, len(made)))
    return made


def by_full_logits(policy: Policy, row: TrainingSequence) -> tuple[Tensor, Tensor]:
    """One sequence by itself, the plain way, in float64."""
    tokens = torch.cat([row.prompt_token_ids, row.completion_token_ids])
    with torch.no_grad():
        logits = policy.model(tokens.unsqueeze(0)).logits[0].double() / TEMPERATURE
    every = logits[len(row.prompt_token_ids) - 1 : -1].log_softmax(-1)
    return every.gather(-1, row.completion_token_ids[:, None])[:, 0], -(every.exp() * every).sum(-1)


def check(policy: Policy, budget: int) -> None:
    made = rows()
    for batch in micro_batches(made, budget, policy.layout):
        logprobs, entropy = policy.logprobs(batch, TEMPERATURE, entropy=True)
        assert entropy is not None and logprobs.requires_grad and not entropy.requires_grad
        assert policy.logprobs(batch, TEMPERATURE)[1] is None
        for place, index in enumerate(batch.plan.rows):
            length = batch.completion_lengths[place]
            expected = by_full_logits(policy, made[index])
            torch.testing.assert_close(logprobs[place, :length].double(), expected[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(entropy[place, :length].double(), expected[1], rtol=1e-5, atol=1e-5)
            assert torch.all(logprobs[place, length:] == 0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [1, 16, 1000])
def test_padding_changes_nothing(tmp_path: Path, tied: bool, budget: int) -> None:
    write_model(tmp_path, tied=tied)
    check(Policy(tmp_path, CPU), budget)


def test_a_head_that_does_more_than_a_product_is_left_to_the_model(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.5,
        initializer_range=0.5,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    policy = Policy(tmp_path, CPU)
    assert policy._linear_head is None
    check(policy, 1000)


@pytest.fixture
def kernel_by_edges() -> Iterator[None]:
    """A kernel as flash attention is one: it keeps the sequences of a pack apart by `cu_seq_lens`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **kwargs: Any) -> tuple[Tensor, None]:
        edges = kwargs.get("cu_seq_lens_q")
        spans = pairwise([0, q.shape[2]] if edges is None else edges.tolist())
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scale = kwargs["scaling"]
        parts = [
            scaled_dot_product_attention(q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], is_causal=True, scale=scale)
            for a, b in spans
        ]
        return torch.cat(parts, dim=2).transpose(1, 2), None

    AttentionInterface.register(BY_EDGES, attend)
    AttentionMaskInterface.register(BY_EDGES, lambda *args, **kwargs: None)
    yield
    del AttentionInterface._global_mapping[BY_EDGES], AttentionMaskInterface._global_mapping[BY_EDGES]


@pytest.mark.parametrize("budget", [1, 16, 1000])
def test_packing_changes_nothing(tmp_path: Path, kernel_by_edges: None, budget: int) -> None:
    write_model(tmp_path)
    policy = Policy(tmp_path, CPU)
    policy.model.config._attn_implementation = BY_EDGES
    policy.layout = "packed"
    check(policy, budget)

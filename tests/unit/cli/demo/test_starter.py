"""The starter model: its measure is exact, its teaching lowers the loss, stops at the target and repeats itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from services.cli.demo import starter
from services.cli.demo.starter import StarterNotReached, accuracy, answer_loss, build_model, encode, pretrain
from services.cli.demo.sums import Split, Sum, split
from services.cli.demo.tokenizer import build_tokenizer

DATA = split(0)
SMALL = Split(DATA.train[:64], DATA.validation[:8], DATA.probe[:32])


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(starter.CONTEXT_TOKENS)


def test_the_model_is_small_tied_and_decided_by_the_seed(tokenizer: Any) -> None:
    model, again, other = build_model(tokenizer, 5), build_model(tokenizer, 5), build_model(tokenizer, 6)
    assert 400_000 < sum(parameter.numel() for parameter in model.parameters()) < 500_000
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.vocab_size == len(tokenizer)
    states = [one.state_dict() for one in (model, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["lm_head.weight"], states[2]["lm_head.weight"])


def test_building_leaves_the_callers_dice_alone(tokenizer: Any) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build_model(tokenizer, 2)
    assert torch.equal(torch.rand(1), expected)


def test_encoding_marks_where_the_answer_begins(tokenizer: Any) -> None:
    tokens, start = encode(tokenizer, [Sum(47, 38), Sum(99, 99)])
    assert tokens.shape == (2, start + 4)
    assert [tokenizer.decode(row[start:]) for row in tokens] == ["085<eos>", "198<eos>"]


def test_accuracy_is_what_sampling_would_find(tokenizer: Any) -> None:
    """Against one token at a time: the chance of each right token, given that all before it were right."""
    model = build_model(tokenizer, 0)
    tokens, start = encode(tokenizer, [Sum(12, 34), Sum(56, 78)])
    chances, greedy = [], []
    with torch.no_grad():
        for row in tokens:
            steps = [
                (model(row[None, :position]).logits[0, -1].softmax(-1), row[position])
                for position in range(start, len(row))
            ]
            chances.append(torch.stack([step[token] for step, token in steps]).prod())
            greedy.append(all(step.argmax() == token for step, token in steps))
    found = accuracy(model, tokens, start)
    assert found.sampled == pytest.approx(float(torch.stack(chances).mean()), rel=1e-4)
    assert found.greedy == sum(greedy) / len(greedy)


def test_teaching_lowers_the_loss_and_repeats_itself(tokenizer: Any) -> None:
    losses = []
    for _ in range(2):
        model = build_model(tokenizer, 0)
        tokens, start = encode(tokenizer, SMALL.validation)
        before = float(answer_loss(model, tokens, start).detach())
        with pytest.raises(StarterNotReached, match="after 12 batches"):
            pretrain(model, tokenizer, SMALL, seed=0, max_batches=12)
        losses.append(float(answer_loss(model, tokens, start).detach()))
        assert losses[-1] < 0.9 * before
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_it_stops_as_soon_as_the_target_is_reached(tokenizer: Any) -> None:
    seen: list[tuple[int, float]] = []
    model = build_model(tokenizer, 0)
    chance = {"target": 1e-3, "max_batches": 60}  # one that a few batches reach
    found = pretrain(model, tokenizer, SMALL, 0, lambda *point: seen.append(point), **chance)
    assert seen[-1][1] == found.sampled >= 1e-3
    assert all(sampled < 1e-3 for _, sampled in seen[:-1])
    assert seen[-1][0] < 60


def test_the_folder_opens_as_any_model_does(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = build_model(tokenizer, 0)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens, start = encode(tokenizer, SMALL.validation)
    assert accuracy(again, tokens, start) == accuracy(model, tokens, start)
    assert again.generation_config.eos_token_id == tokenizer.eos_token_id

"""The vLLM engine against Hugging Face: what it says of its samples is true, before, during and after updates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from services.rollout.engine import SampledGroup
from services.weights.file_store import read_manifest
from tests.support.engine_bench import (
    LIMIT,
    MIN_BATCHED_TOKENS,
    PROMPT,
    Bench,
    recomputed,
    request,
    worst_difference,
)

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # of third parties, while they are imported and run in this process
]


def test_parity_after_each_of_three_updates(bench: Bench, record_property: Any) -> None:
    for _ in range(3):
        before = bench.models[bench.version]
        folder = bench.publish_next()
        bench.load(folder)
        group = bench.sample(seed=bench.version)
        worst = max(worst_difference(bench, completion) for completion in group)
        record_property(f"difference_{bench.version}", worst)
        assert {span.version for completion in group for span in completion.spans} == {bench.version}
        assert worst < LIMIT
        assert bench.canary_mismatch(folder) < LIMIT
        # The update is large enough to be seen: the version before would have failed by far.
        old = recomputed(before, group[0].token_ids)
        assert float((torch.tensor(group[0].logprobs) - old).abs().max()) > 100 * LIMIT


def test_an_update_in_mid_generation_is_true_on_both_sides(bench: Bench) -> None:
    """Sixteen completions run, more tokens than one step of the engine can recompute after the update."""
    for delay_seconds in (0.6, 1.2, 0.3, 2.0):
        old = bench.version
        folder = bench.publish_next()

        async def sample_and_update(delay_seconds: float = delay_seconds, folder: Path = folder) -> list[SampledGroup]:
            requests = [request(max_tokens=400, seed=seed) for seed in range(4)]
            sampling = asyncio.gather(*(bench.engine.sample(each) for each in requests))
            await asyncio.sleep(delay_seconds)
            await bench.engine.load(folder, read_manifest(folder))
            return await sampling

        completions = [completion for group in bench.loop.run(sample_and_update()) for completion in group]
        before = sum(completion.spans[0].end for completion in completions)
        if before > MIN_BATCHED_TOKENS and all(len(completion.spans) == 2 for completion in completions):
            break
    for completion in completions:
        assert [span.version for span in completion.spans] == [old, bench.version]
        assert len(completion.token_ids) == 400
        assert worst_difference(bench, completion) < LIMIT
    assert before > MIN_BATCHED_TOKENS


def test_a_group_is_reproducible_by_its_seed(bench: Bench) -> None:
    first, again, other = bench.sample(seed=7), bench.sample(seed=7), bench.sample(seed=8)
    assert [c.token_ids for c in first] == [c.token_ids for c in again]
    assert len({c.token_ids for c in first}) == 4
    assert [c.token_ids for c in first] != [c.token_ids for c in other]


def test_behaviour_logprobs_are_of_the_tempered_distribution(bench: Bench) -> None:
    for completion in bench.sample(temperature=0.7):
        assert worst_difference(bench, completion, temperature=0.7) < LIMIT
        assert worst_difference(bench, completion, temperature=1.0) > 100 * LIMIT


def test_temperature_zero_is_greedy(bench: Bench) -> None:
    (completion,) = bench.sample(temperature=0.0, group_size=1, background=True)
    model = bench.models[completion.spans[0].version]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*PROMPT, *completion.token_ids]])).logits[0]
    assert logits[len(PROMPT) - 1 : -1].argmax(-1).tolist() == list(completion.token_ids)


def test_a_stop_token_ends_a_completion_and_is_part_of_it(bench: Bench) -> None:
    token = bench.sample(max_tokens=8)[0].token_ids[3]
    stopped = bench.sample(max_tokens=8, stop_token_ids=(token,))[0]
    assert stopped.stop_reason == "stop"
    assert stopped.token_ids.index(token) == len(stopped.token_ids) - 1 <= 3
    assert len(stopped.logprobs) == len(stopped.token_ids)

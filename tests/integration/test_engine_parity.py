"""The vLLM engine against Hugging Face: what it says of its samples is true, before, during and after updates.

Two engines serve all tests here: one with tied embeddings, one without. Every test publishes versions of its own, so
their order doesn't matter.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from services.job.spec import RolloutSpec
from services.rollout.engine import Engine, LoadRefused, SampledCompletion, SampledGroup, SampleRequest
from services.rollout.environment import engine_environment
from services.weights.canary import canary_tokens, check, compute
from services.weights.file_store import publish, read_manifest
from services.weights.fingerprint import write_hashed
from services.weights.manifest import MANIFEST_FILE, TENSORS_FILE, Canary

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),  # of third parties, while they are imported and run in this process
]

LIMIT = 1e-4
MIN_BATCHED_TOKENS = 2048
VOCABULARY = 300
PROMPT = (17, 230, 5, 88, 121, 9)
ROLLOUT = RolloutSpec(
    group_size=4, max_tokens=400, max_prompt_tokens=64, concurrent_groups=4, kv_cache_bytes=64 * 2**20, threads=1
)

T = TypeVar("T")
_ids = itertools.count()


class Loop:
    """One event loop in a thread: an AsyncLLM lives on one loop, tests are plain functions."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(200)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class Bench:
    """An engine, the Hugging Face model of every version it was given, and the loop the engine lives on."""

    engine: Engine
    base: Path
    root: Path
    loop: Loop
    models: dict[int, Any] = field(default_factory=dict)
    version: int = 0

    def publish_next(self, scale: float = 0.02) -> Path:
        """Publish the newest model, every parameter of it moved at random."""
        model = self.models[self.version]
        self.version += 1
        self.models[self.version] = moved = _copy(model)
        generator = torch.Generator().manual_seed(self.version)
        with torch.no_grad():
            for parameter in moved.parameters():
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
        return self.publish()

    def publish(self) -> Path:
        model = self.models[self.version]
        tokens = canary_tokens(VOCABULARY, seed=3)
        canary = Canary(token_ids=tuple(tokens), logprobs=tuple(compute(model, tokens)))
        tensors = dict(model.named_parameters())
        return publish(
            self.root,
            tensors,
            version=self.version,
            step=self.version,
            canary=canary,
            model_files=self.base,
            dtype=torch.float32,
        )

    def load(self, folder: Path) -> None:
        self.loop.run(self.engine.load(folder, read_manifest(folder)))

    def sample(self, **changes: Any) -> SampledGroup:
        return self.loop.run(self.engine.sample(request(**changes)))

    def canary_mismatch(self, folder: Path) -> float:
        expected = read_manifest(folder).canary
        got = self.loop.run(self.engine.canary(expected.token_ids))
        return check(expected.logprobs, got, dtype="float32").mismatch


def request(**changes: Any) -> SampleRequest:
    fields: dict[str, Any] = {
        "request_id": f"r{next(_ids)}",
        "prompt_token_ids": PROMPT,
        "group_size": 4,
        "temperature": 1.0,
        "max_tokens": 24,
        "seed": 11,
        "stop_token_ids": (),
    }
    return SampleRequest(**{**fields, **changes})


def _copy(model: Any) -> Any:
    copied = type(model)(model.config)
    copied.load_state_dict(model.state_dict())
    return copied.eval()


def tiny_model(tied: bool) -> Any:
    """A Qwen2 whose random weights are large enough for log-probs to differ from token to token."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(5)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=tied,
    )
    return Qwen2ForCausalLM(config).float().eval()


@contextmanager
def started_engine(tied: bool, folder: Path) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine_environment(ROLLOUT).items():
            patch.setenv(name, value)
        from services.rollout.vllm_engine import VllmEngine

        engine = VllmEngine(ROLLOUT, seed=1, extension="tests.support.stale_head.StaleHeadWeights")
        bench = Bench(engine, folder / "base", folder / "weights", Loop(), {0: tiny_model(tied)})
        bench.base.mkdir()
        (bench.base / "config.json").write_text(bench.models[0].config.to_json_string(use_diff=False))
        first = bench.publish()
        try:
            bench.loop.run(engine.start(first, read_manifest(first)))
            yield bench
        finally:
            bench.loop.run(engine.stop())
            bench.loop.close()


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with started_engine(True, tmp_path_factory.mktemp("tied")) as bench:
        yield bench


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with started_engine(False, tmp_path_factory.mktemp("untied")) as bench:
        yield bench


@pytest.fixture(params=["tied", "untied"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


@torch.no_grad()
def recomputed(model: Any, completion: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    tokens = torch.tensor([[*PROMPT, *completion]])
    logits = model(input_ids=tokens).logits[0, len(PROMPT) - 1 : -1] / temperature
    return torch.log_softmax(logits, -1).gather(-1, tokens[0, len(PROMPT) :, None])[:, 0]


def worst_difference(bench: Bench, completion: SampledCompletion, temperature: float = 1.0) -> float:
    """Largest difference to the log-probs of the model that each span names; the spans must cover all tokens."""
    covered = [token for span in completion.spans for token in range(span.start, span.end)]
    assert covered == list(range(len(completion.token_ids)))
    behaviour = torch.tensor(completion.logprobs)
    worst = 0.0
    for span in completion.spans:
        expected = recomputed(bench.models[span.version], completion.token_ids, temperature)
        worst = max(worst, float((behaviour - expected)[span.start : span.end].abs().max()))
    return worst


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


def test_the_canary_sees_a_stale_tied_head(tied: Bench) -> None:
    folder = tied.publish_next()
    content_hash = read_manifest(folder).content_hash
    llm = tied.engine._llm  # type: ignore[attr-defined]
    tied.loop.run(llm.collective_rpc("sspo_load_without_head", args=(str(folder), content_hash)))
    stale = tied.canary_mismatch(folder)
    answers = tied.loop.run(llm.collective_rpc("sspo_verify_version", args=(str(folder), content_hash)))
    tied.load(folder)
    assert stale > 100 * LIMIT
    assert "lm_head.weight (packed)" in answers[0]["refused"]
    assert tied.canary_mismatch(folder) < LIMIT


def test_a_wrong_content_hash_is_refused(bench: Bench, tmp_path: Path) -> None:
    current = bench.publish_next()
    bench.load(current)
    broken = tmp_path / "broken"
    shutil.copytree(current, broken)
    data = bytearray((broken / TENSORS_FILE).read_bytes())
    data[-3] ^= 0xFF
    (broken / TENSORS_FILE).write_bytes(data)
    with pytest.raises(LoadRefused, match="sha256"):
        bench.load(broken)
    assert bench.canary_mismatch(current) < LIMIT
    assert max(worst_difference(bench, completion) for completion in bench.sample()) < LIMIT


def test_a_missing_tensor_is_refused(bench: Bench, tmp_path: Path) -> None:
    current = bench.publish_next()
    bench.load(current)
    missing = "model.layers.1.mlp.down_proj.weight"
    tensors = {name: p for name, p in bench.models[bench.version].named_parameters() if name != missing}
    broken = tmp_path / "broken"
    shutil.copytree(current, broken)
    content_hash, infos = write_hashed(broken / TENSORS_FILE, tensors, torch.float32)
    manifest = json.loads((broken / MANIFEST_FILE).read_text()) | {"content_hash": content_hash}
    # A manifest that claims the tensor, with a file that lacks it; then both without it.
    for claimed in (manifest["tensors"], {name: info.model_dump() for name, info in infos.items()}):
        (broken / MANIFEST_FILE).write_text(json.dumps(manifest | {"tensors": claimed}))
        with pytest.raises(LoadRefused, match="down_proj"):
            bench.load(broken)
    assert bench.canary_mismatch(current) < LIMIT


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


def test_a_healthy_engine_answers_a_check_and_names_its_process(bench: Bench) -> None:
    bench.loop.run(bench.engine.check())
    assert bench.engine.pid is not None and bench.engine.pid != os.getpid()

"""A vLLM engine, and the Hugging Face model of every version that it was given."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from services.job.spec import RolloutSpec
from services.rollout.engine import Engine, SampledCompletion, SampledGroup, SampleRequest
from services.rollout.environment import engine_environment
from services.weights.canary import canary_tokens, check, compute
from services.weights.file_store import read_manifest
from services.weights.manifest import Canary
from services.weights.publish import publish
from tests.support.listeners import move_to_another_machine

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
    """One event loop in a thread: an AsyncLLM lives on one loop, tests are plain functions. The thread, and what is
    started from it, is first moved to another machine if there is a folder for that."""

    def __init__(self, elsewhere: Path | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(elsewhere,), daemon=True)
        self._thread.start()

    def _run(self, elsewhere: Path | None) -> None:
        if elsewhere is not None:
            move_to_another_machine(elsewhere)
        self._loop.run_forever()

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
def started_engine(tied: bool, folder: Path, *, elsewhere: bool = False) -> Iterator[Bench]:
    """An engine on a model of its own; `elsewhere`: on a machine whose name is not that of loopback."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in engine_environment(ROLLOUT).items():
            patch.setenv(name, value)
        from services.rollout.vllm_engine import VllmEngine

        engine = VllmEngine(ROLLOUT, seed=1, extension="tests.support.stale_head.StaleHeadWeights")
        loop = Loop(folder / "machine" if elsewhere else None)
        bench = Bench(engine, folder / "base", folder / "weights", loop, {0: tiny_model(tied)})
        bench.base.mkdir()
        (bench.base / "config.json").write_text(bench.models[0].config.to_json_string(use_diff=False))
        first = bench.publish()
        try:
            bench.loop.run(engine.start(first, read_manifest(first)))
            yield bench
        finally:
            bench.loop.run(engine.stop())
            bench.loop.close()


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

"""Sampling from a plain Hugging Face folder, once, without a job: for measuring a model before and after training.

`engine_environment` must be applied before this module is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vllm import LLM, SamplingParams, TokensPrompt
from vllm.sampling_params import RequestOutputKind

KV_CACHE_BYTES = 128 * 2**20
MAX_SEQUENCES = 256
BATCHED_TOKENS = 8192


class OfflineSampler:
    """One engine on one folder. One completion a prompt; the same seeds give the same completions."""

    def __init__(self, folder: Path, *, max_tokens: int, stop_token_ids: Sequence[int]) -> None:
        self._max_tokens = max_tokens
        self._stop = list(stop_token_ids)
        self._llm = LLM(
            model=str(folder),
            dtype="float32",
            enforce_eager=True,
            skip_tokenizer_init=True,
            generation_config="vllm",
            kv_cache_memory_bytes=KV_CACHE_BYTES,
            # A seeded request whose prefill is cut in two ends a CPU engine.
            enable_chunked_prefill=False,
            max_num_seqs=MAX_SEQUENCES,
            max_num_batched_tokens=BATCHED_TOKENS,
            disable_log_stats=True,
        )

    def sample(self, prompts: Sequence[Sequence[int]], *, temperature: float, seeds: Sequence[int]) -> list[list[int]]:
        """Completion token ids, stop token included; temperature 0 is greedy."""
        parameters = [
            SamplingParams(
                temperature=temperature,
                seed=seed,
                max_tokens=self._max_tokens,
                stop_token_ids=self._stop,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            for seed in seeds
        ]
        tokens = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        outputs = self._llm.generate(tokens, parameters, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]

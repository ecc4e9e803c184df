"""The vLLM engine: AsyncLLM with in-flight weight updates from version folders.

Invariants: every sampled token carries the label of the version that sampled it; a version is labelled only after the
worker has proven that it holds it; an error that leaves the model half loaded raises EngineBroken. The engine's process
inherits the environment, so `engine_environment` must be applied before this module is imported.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import structlog
import torch
from vllm import SamplingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from services.faults import fault
from services.job.spec import RolloutSpec, derived_seed
from services.rollout.engine import (
    EngineBroken,
    LoadRefused,
    RequestRefused,
    SampledCompletion,
    SampledGroup,
    SampleRequest,
    Span,
)
from services.weights.manifest import Manifest, TensorInfo

log = structlog.get_logger()

EXTENSION = "services.rollout.vllm_extension.VersionedWeights"
CANARY_CONTEXT = 64
"""Context that is always there, for the canary's tokens."""
MIN_BATCHED_TOKENS = 2048
GPU_MEMORY_UTILIZATION = 0.85
STOP_SECONDS = 1.0
"""The engine's process holds nothing worth a slower end."""


class VllmEngine:
    """One AsyncLLM, one device. Implements `services.rollout.engine.Engine`."""

    def __init__(self, rollout: RolloutSpec, *, seed: int, extension: str = EXTENSION) -> None:
        self._rollout = rollout
        self._seed = seed
        self._extension = extension
        self._llm: AsyncLLM | None = None
        self._tensors: dict[str, TensorInfo] = {}
        self._version = -1
        self._canaries = 0

    @property
    def pid(self) -> int | None:
        return next((process.pid for process in _processes(self._llm) if _lives(process)), None)

    async def start(self, folder: Path, manifest: Manifest) -> None:
        # In a thread: building the engine takes many seconds, in which the worker still has to show a heartbeat.
        async with _fatal("start"):
            self._llm = await asyncio.to_thread(AsyncLLM.from_engine_args, self._arguments(folder))
        async with _fatal("verify"):
            await self._running.collective_rpc("sspo_end_with_parent")
            answers = await self._running.collective_rpc(
                "sspo_verify_version", args=(str(folder), manifest.content_hash)
            )
            _accept(answers)
            await self._label(manifest.version)
        self._tensors = manifest.tensors

    async def sample(self, request: SampleRequest) -> SampledGroup:
        parameters = SamplingParams(
            n=request.group_size,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            seed=request.seed,
            stop_token_ids=list(request.stop_token_ids),
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        priority = 1 if request.background else 0
        output = await self._generate(request.prompt_token_ids, parameters, request.request_id, priority)
        return tuple(_completion(part) for part in sorted(output.outputs, key=lambda part: part.index))

    async def load(self, folder: Path, manifest: Manifest) -> None:
        if manifest.tensors != self._tensors:
            differing = sorted({name for name, _ in manifest.tensors.items() ^ self._tensors.items()})
            raise LoadRefused(f"version {manifest.version} has other tensors than this model: {differing[:4]}")
        async with _fatal("load"):
            # "keep" freezes running requests; dropping the cache makes them recompute it under the new weights.
            await self._running.pause_generation(mode="keep", clear_cache=True)
            answers = await self._running.collective_rpc("sspo_load_version", args=(str(folder), manifest.content_hash))
            fault("rollout.mid_weight_load")
            if not _refusals(answers):
                await self._label(manifest.version)
            await self._running.resume_generation()
            _accept(answers)

    async def canary(self, token_ids: tuple[int, ...]) -> list[float]:
        self._canaries += 1
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await self._generate(token_ids, parameters, f"canary-{self._canaries}", -1)
        return [float(value) for value in output.prompt_logprobs.logprobs]

    async def check(self) -> None:
        async with _fatal("check"):
            await self._running.check_health()
            # Answered by the engine's loop between two steps: a hung loop never answers.
            await self._running.get_weight_version()

    async def stop(self) -> None:
        llm, processes = self._llm, _processes(self._llm)
        self._llm = None
        if llm is None:
            return
        try:
            async with asyncio.timeout(4 * STOP_SECONDS):
                await asyncio.to_thread(llm.shutdown, STOP_SECONDS)
        except (EngineDeadError, TimeoutError, OSError) as error:
            log.warning("engine_shutdown_failed", error=str(error))
        for process in processes:
            if _lives(process):
                process.kill()

    @property
    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineBroken("the engine is not running")
        return self._llm

    def _arguments(self, folder: Path) -> AsyncEngineArgs:
        rollout = self._rollout
        sequences = (rollout.concurrent_groups + 1) * rollout.group_size + 1
        context = _context(folder, rollout.max_prompt_tokens + rollout.max_tokens)
        return AsyncEngineArgs(
            model=str(folder),
            dtype=rollout.dtype,
            seed=derived_seed(self._seed, "engine") % 2**31,
            enforce_eager=True,
            max_model_len=context,
            max_num_seqs=sequences,
            max_num_batched_tokens=max(MIN_BATCHED_TOKENS, context + sequences),
            scheduling_policy="priority",
            logprobs_mode="processed_logprobs",
            generation_config="vllm",
            skip_tokenizer_init=True,
            worker_extension_cls=self._extension,
            served_model_name="policy",
            disable_log_stats=False,
            **self._device_arguments(),
        )

    def _device_arguments(self) -> dict[str, Any]:
        if torch.cuda.is_available():
            return {"gpu_memory_utilization": GPU_MEMORY_UTILIZATION}
        return {
            "kv_cache_memory_bytes": self._rollout.kv_cache_bytes,
            # A seeded request whose prefill is cut in two has its generator rewound, which the CPU's generator can't.
            # An update recomputes everything that runs, so that cuts would be common.
            "enable_chunked_prefill": False,
        }

    async def _generate(
        self, token_ids: tuple[int, ...], parameters: SamplingParams, request_id: str, priority: int
    ) -> RequestOutput:
        # The salt keeps a request from reading cached blocks of another version's weights.
        prompt = TokensPrompt(prompt_token_ids=list(token_ids), cache_salt=f"v{self._version}")
        final = None
        async with _fatal("generate"):
            try:
                async for output in self._running.generate(prompt, parameters, request_id, priority=priority):
                    final = output
            except (VLLMClientError, ValueError) as error:
                raise RequestRefused(f"{request_id}: {error}") from error
        if final is None or not final.finished:
            raise EngineBroken(f"request {request_id} ended without an answer")
        return final

    async def _label(self, version: int) -> None:
        await self._running.update_weight_version(str(version))
        self._version = version


@asynccontextmanager
async def _fatal(what: str) -> AsyncIterator[None]:
    """The border to vLLM: an error becomes a typed refusal, or EngineBroken."""
    try:
        yield
    except (EngineBroken, LoadRefused, RequestRefused):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # our caller gave up
        raise EngineBroken(f"{what}: the engine died and dropped the call") from error
    except Exception as error:  # a worker's failure arrives as a bare Exception
        raise EngineBroken(f"{what}: {error}") from error


def _refusals(answers: Sequence[dict[str, str]]) -> list[str]:
    return [answer["refused"] for answer in answers if answer["refused"]]


def _accept(answers: Sequence[dict[str, str]]) -> None:
    refusals = _refusals(answers)
    if refusals:
        raise LoadRefused(refusals[0])


def _completion(part: CompletionOutput) -> SampledCompletion:
    if part.finish_reason not in ("stop", "length") or not part.weight_versions:
        raise EngineBroken(f"a completion ended as {part.finish_reason!r}, spans {part.weight_versions}")
    spans = tuple(Span(int(span.version), span.start, span.end) for span in part.weight_versions)
    return SampledCompletion(tuple(part.token_ids), tuple(part.logprobs.logprobs), spans, part.finish_reason)


def _context(folder: Path, wanted: int) -> int:
    """Tokens of one sequence: what the job needs, at most what the model can."""
    config = json.loads((folder / "config.json").read_text())
    return int(min(max(wanted, CANARY_CONTEXT), config.get("max_position_embeddings", wanted)))


def _lives(process: BaseProcess) -> bool:
    """Whether the process lives. Under Ray, which ignores SIGCHLD, `is_alive` alone says yes for ever."""
    return process.is_alive() and process.pid is not None and psutil.pid_exists(process.pid)


def _processes(llm: AsyncLLM | None) -> list[BaseProcess]:
    manager = llm.engine_core.resources.engine_manager if llm is not None else None
    return list(manager.processes) if manager is not None else []

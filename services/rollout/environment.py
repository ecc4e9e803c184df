"""The environment variables of an engine. They have to be set before vllm is imported; the engine's process inherits
them."""

from __future__ import annotations

import torch

from services.job.spec import RolloutSpec

ALWAYS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # Without these an engine listens, unauthenticated, on whatever address the host's name has.
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
}
CPU_ONLY = {
    # The engine's own process loads the model: two processes per worker instead of three.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Two engines that bind themselves choose the same cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # Even an eager engine compiles its log-prob kernel otherwise: 20 s and a C++ compiler.
    "TORCH_COMPILE_DISABLE": "1",
}


def engine_environment(rollout: RolloutSpec) -> dict[str, str]:
    """Variables for an engine on this machine. On a GPU the variables for CPU engines are left out."""
    device = {} if torch.cuda.is_available() else CPU_ONLY
    return {**ALWAYS, **device, "OMP_NUM_THREADS": str(rollout.threads)}

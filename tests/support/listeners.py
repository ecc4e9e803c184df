"""Where an engine listens, on a machine whose name resolves to an address that is not loopback.

`python -m tests.support.listeners FOLDER` in network and mount namespaces of its own (`unshare --net --mount`): the
machine gets such an address and name there, an engine is started, and every listening socket is printed, a line each.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import torch

ADDRESS = "10.77.0.1"
"""Only in the namespace, on its own loopback device."""
SIOCSIFADDR, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x8913, 0x8914, 1


def name_this_machine(folder: Path) -> None:
    """Bring loopback up, give it a second address, and have the host's name resolve to that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for device, address in (("lo", "127.0.0.1"), ("lo:1", ADDRESS)):
            request = struct.pack("16sH2s4s8x", device.encode(), socket.AF_INET, b"", socket.inet_aton(address))
            fcntl.ioctl(control, SIOCSIFADDR, request)
        flags = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (before,) = struct.unpack_from("H", flags, 16)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", before | IFF_UP))
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {socket.gethostname()}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    assert socket.gethostbyname(socket.gethostname()) == ADDRESS


def listening() -> list[str]:
    """HOST:PORT of every listening TCP socket of this process and its children."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [connection.laddr for process in family for connection in process.net_connections("tcp")
             if connection.status == psutil.CONN_LISTEN]  # fmt: skip
    return [f"{address.ip}:{address.port}" for address in found]


async def start_engine(folder: Path) -> list[str]:
    from services.job.spec import RolloutSpec

    rollout = RolloutSpec(group_size=2, max_tokens=8, max_prompt_tokens=8, kv_cache_bytes=32 * 2**20)
    from services.rollout.environment import engine_environment

    os.environ.update(engine_environment(rollout))
    from services.rollout.vllm_engine import VllmEngine
    from services.weights.canary import canary_tokens, compute
    from services.weights.file_store import publish, read_manifest
    from services.weights.manifest import Canary
    from tests.support.tiny import VOCABULARY, write_model

    write_model(folder / "model")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model").float().eval()
    tokens = canary_tokens(VOCABULARY, 1)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    version = publish(
        folder / "weights", tensors, version=1, step=0, model_files=folder / "model",
        canary=Canary(token_ids=tokens, logprobs=compute(model, tokens)), dtype=torch.float32,
    )  # fmt: skip
    engine = VllmEngine(rollout, seed=1)
    try:
        await engine.start(version, read_manifest(version))
        return listening()
    finally:
        await engine.stop()


if __name__ == "__main__":
    place = Path(sys.argv[1])
    name_this_machine(place)
    print("\n".join(asyncio.run(start_engine(place))))

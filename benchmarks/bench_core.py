"""What sspo_core costs against the plain way of doing the same, side by side on this machine.

    python benchmarks/bench_core.py [logprobs] [packing] [share] [losses]

Every variant runs in a process of its own, on one thread. Seconds are CPU seconds (the median of the repeats), so that
a busy machine changes little; memory is the growth of the process's peak over what it held before the first repeat.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from sspo_core.config import OBJECTIVES
from sspo_core.diagnostics.ratio_diagnostics import RatioDiagnostics
from sspo_core.logprobs import linear_logprobs
from sspo_core.losses import policy_loss
from sspo_core.packing import RowPlan, plan
from sspo_core.types import LossInputs

Phases = dict[str, float]


def peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# Log-probs from hidden states: 4,096 tokens, hidden 576, vocabulary 49,152, float32, entropy off.


def _log_softmax(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return torch.log_softmax(hidden @ weight.t(), dim=-1).gather(1, targets[:, None])[:, 0]


def _chunked(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return linear_logprobs(hidden, weight, targets)[0]


def bench_logprobs(variant: str) -> Callable[[], Phases]:
    tokens, width, vocab = 4096, 576, 49_152
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator).requires_grad_()
    weight = torch.randn(vocab, width, generator=generator).mul_(0.05).requires_grad_()
    targets = torch.randint(0, vocab, (tokens,), generator=generator)
    upstream = torch.randn(tokens, generator=generator)
    function = {"log_softmax + gather": _log_softmax, "linear_logprobs": _chunked}[variant]

    def once() -> Phases:
        hidden.grad = weight.grad = None
        start = time.process_time()
        logprobs = function(hidden, weight, targets)
        forward = time.process_time() - start
        torch.autograd.backward(logprobs, upstream)
        return {"forward": forward, "forward + backward": time.process_time() - start}

    return once


# Packing: a small causal model, forward and backward, over 256 sequences of log-normal length.


class Causal(nn.Module):
    """Two layers over either layout; the sequences of a pack are attended to one by one.

    Without a mask: padding lies on the right, where a causal model doesn't look.
    """

    def __init__(self, width: int = 256, vocab: int = 2048, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.head = nn.Embedding(vocab, width), nn.Linear(width, vocab, bias=False)
        self.attend = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.widen = nn.ModuleList(nn.Sequential(nn.Linear(width, 4 * width), nn.GELU()) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(2))

    def forward(self, ids: Tensor, edges: list[int]) -> Tensor:
        hidden = self.embed(ids)
        for attend, widen, narrow in zip(self.attend, self.widen, self.narrow, strict=True):
            q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in attend(hidden).chunk(3, dim=-1))
            parts = [
                scaled_dot_product_attention(
                    q[..., start:end, :], k[..., start:end, :], v[..., start:end, :], is_causal=True
                )
                for start, end in itertools.pairwise(edges)
            ]
            hidden = hidden + torch.cat(parts, dim=2).transpose(1, 2).flatten(-2)
            hidden = hidden + narrow(widen(hidden))
        logits: Tensor = self.head(hidden)
        return logits


def bench_packing(variant: str) -> Callable[[], Phases]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.exp(torch.randn(256, generator=generator)) * 96
    lengths = drawn.long().clamp(1, 512).tolist()
    ids = [torch.randint(0, 2048, (length,), generator=generator) for length in lengths]
    torch.manual_seed(0)
    model = Causal()

    def once() -> Phases:
        start = time.process_time()
        if variant.startswith("16 at a time"):
            batches = [
                RowPlan(tuple(rows), tuple(lengths[row] for row in rows), "padded")
                for rows in (range(i, i + 16) for i in range(0, 256, 16))
            ]
        else:
            batches = plan(lengths, 4096, "packed" if variant.startswith("packed") else "padded")
        for m in batches:
            edges = m.cu_seqlens().tolist() if m.layout == "packed" else [0, m.shape[1]]
            laid = m.lay(ids)
            logprobs = model(laid, edges).log_softmax(-1).gather(-1, laid[..., None])[..., 0]
            torch.autograd.backward((logprobs * m.mask()).sum())
        return {"forward + backward": time.process_time() - start, "tokens": float(sum(m.tokens for m in batches))}

    return once


# Losses with their diagnostics: 64 sequences of 512 tokens, forward and backward.


def bench_losses(variant: str) -> Callable[[], Phases]:
    generator = torch.Generator().manual_seed(0)
    behaviour = -3 * torch.rand(64, 512, generator=generator)
    policy = (behaviour + 0.1 * torch.randn(64, 512, generator=generator)).requires_grad_()
    mask = torch.rand(64, 512, generator=generator) < 0.8
    advantages = torch.randn(64, generator=generator)

    def plain() -> Tensor:
        ratio = (policy - behaviour).exp()
        per_token = torch.min(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
        return -((per_token * mask).sum(1) / mask.sum(1)).mean()

    def once() -> Phases:
        start = time.process_time()
        for _ in range(10):
            policy.grad = None
            if variant == "plain GRPO":
                loss = plain()
            else:
                loss = policy_loss(LossInputs(policy, behaviour, advantages, mask), OBJECTIVES[variant]()).loss
            torch.autograd.backward(loss)
        return {"forward + backward": (time.process_time() - start) / 10}

    return once


# What an objective and all its diagnostics add to a learner's step: 4,096 tokens, a model of 135M parameters.

MODEL_135M = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def bench_share(variant: str) -> Callable[[], Phases]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 49_152, (8, 512), generator=generator)
    if variant == "the model":
        from transformers import LlamaConfig, LlamaForCausalLM

        model: Any = LlamaForCausalLM(LlamaConfig(**MODEL_135M))
        head = model.get_output_embeddings().weight

        def learn() -> Phases:
            start = time.process_time()
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            torch.autograd.backward(linear_logprobs(hidden, head, ids)[0].sum())
            return {"forward + backward": time.process_time() - start}

        return learn
    behaviour = -3 * torch.rand(8, 512, generator=generator)
    policy = (behaviour + 0.1 * torch.randn(8, 512, generator=generator)).requires_grad_()
    inputs = LossInputs(
        policy,
        behaviour,
        torch.randn(8, generator=generator),
        torch.ones(8, 512, dtype=torch.bool),
        entropy=torch.rand(8, 512, generator=generator),
        buckets=[0, 0, 0, 1, 1, 1, 2, 2],
    )

    def judge() -> Phases:
        start = time.process_time()
        for _ in range(10):
            policy.grad = None
            outputs = policy_loss(inputs, OBJECTIVES["sspo"]())
            torch.autograd.backward(outputs.loss)
            for metrics in (outputs.metrics, *outputs.buckets.values()):
                RatioDiagnostics(metrics).figures()
        return {"forward + backward": (time.process_time() - start) / 10}

    return judge


Target = dict[str, float]
BENCHES: dict[str, tuple[Callable[[str], Callable[[], Phases]], list[str], Target]] = {
    "logprobs": (
        bench_logprobs,
        ["log_softmax + gather", "linear_logprobs"],
        {"forward": 1.0, "forward + backward": 1.45, "memory": 0.25},
    ),
    "packing": (
        bench_packing,
        ["16 at a time, as they come", "padded plan", "packed plan"],
        {"forward + backward": 0.6},
    ),
    "share": (
        bench_share,
        ["the model", "objective, all diagnostics"],
        {"forward + backward": 0.01},
    ),
    "losses": (bench_losses, ["plain GRPO", "grpo", "sspo"], {}),
}
"""Name → what runs it, its variants (the first is what the others are compared with), ratios to stay under."""


def child(name: str, variant: str, repeats: int) -> None:
    """Runs one variant and prints what it took as JSON."""
    torch.set_num_threads(1)
    once = BENCHES[name][0](variant)
    held = peak_mebibytes()
    phases = [once() for _ in range(repeats)]
    figures = {phase: statistics.median(each[phase] for each in phases) for phase in phases[0]}
    print(json.dumps(figures | {"memory": peak_mebibytes() - held}))


def measure(name: str, repeats: int) -> bool:
    """Runs and prints one comparison. Returns whether every ratio is under its target."""
    _, variants, targets = BENCHES[name]
    results: list[dict[str, Any]] = []
    for variant in variants:
        command = [sys.executable, __file__, "--child", name, variant, "--repeats", str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
        results.append(json.loads(done.stdout))
    kept = True
    print(f"\n{name}")
    for phase in results[0]:
        unit = {"memory": "MiB", "tokens": ""}.get(phase, "s")
        for variant, result in zip(variants, results, strict=True):
            ratio = result[phase] / results[0][phase]
            line = f"  {phase:<20}{variant:<28}{result[phase]:>12.4g} {unit:<4}{ratio:>9.4f}x"
            if variant != variants[0] and phase in targets:
                kept &= ratio <= targets[phase]
                line += f"  target {targets[phase]:g}x {'kept' if ratio <= targets[phase] else 'MISSED'}"
            print(line)
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}; all without one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("NAME", "VARIANT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(BENCHES)):
        parser.error(f"unknown: {', '.join(unknown)}")
    if arguments.child:
        name, variant = arguments.child
        child(name, variant, arguments.repeats)
        return 0
    kept = [measure(name, arguments.repeats) for name in arguments.names or BENCHES]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())

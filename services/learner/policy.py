"""The model being trained: loading, log-probs of completions, plain Hugging Face folders out.

Log-probs are those of the distribution that was sampled: logits divided by the sampling temperature, in float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.learner.batch import MicroBatch

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "added_tokens.json",
)
"""What a model folder holds beside weights; copied as it is into every folder we write."""


class Policy:
    """A causal language model on one device."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import AutoModelForCausalLM

        self.folder = folder
        self.device = device
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
        self.model.eval()  # no dropout: the policy that is trained is the one that samples
        self.tied = bool(self.model.config.tie_word_embeddings)
        self._autocast = device.type == "cuda" and torch.cuda.is_bf16_supported()

    @property
    def vocab_size(self) -> int:
        return int(self.model.config.vocab_size)

    def parameters(self) -> list[Tensor]:
        """The trainable parameters, each once, in a fixed order."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        """Plain Hugging Face names -> tensors; a tied head is left out, as it is in a checkpoint."""
        state: Mapping[str, Tensor] = self.model.state_dict()
        return {name: tensor.detach() for name, tensor in state.items() if not (self.tied and name == "lm_head.weight")}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over tensors under the names of `tensors()`. Raises RuntimeError when names or shapes differ."""
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise RuntimeError(f"checkpoint and model differ in {sorted(own.keys() ^ tensors.keys())[:4]}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])

    def logprobs(self, batch: MicroBatch, temperature: float) -> Tensor:
        """Log-probs [B, T] in float32 of the completion tokens."""
        length = batch.completion_ids.shape[1]
        positions = (batch.attention_mask.cumsum(1) - 1).clamp(min=0)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast):
            logits = self.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=positions,
                logits_to_keep=length + 1,
                use_cache=False,
            ).logits[:, :-1]
        return token_logprobs(logits, batch.completion_ids, temperature)

    def export(self, folder: Path) -> None:
        """Write a plain Hugging Face folder, whole or not at all; what was there before is replaced."""
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        self.model.save_pretrained(temporary)
        copy_model_files(self.folder, temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) at `tokens`: [B, T, V], [B, T] -> [B, T] float32."""
    scaled = logits.float() / temperature
    chosen = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen - scaled.logsumexp(-1)


def copy_model_files(source: Path, target: Path) -> None:
    """Copy config, tokenizer and chat template; never weights, never what `target` already has."""
    for name in MODEL_FILES:
        if (source / name).is_file() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)

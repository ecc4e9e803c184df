"""The model being trained: loading, log-probs of completions, plain Hugging Face folders out.

Log-probs are those of the distribution that was sampled: logits divided by the sampling temperature, in float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from services.disk.files import replace_folder
from services.learner.model.tensors import MicroBatch
from sspo_core import linear_logprobs
from sspo_core.packing import Layout, layout_for

log = structlog.get_logger()

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
"""Files of a model folder beside its weights. They are copied unchanged into every folder we write."""


class Policy:
    """A causal language model on one device."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder = folder
        self.device = device
        self._autocast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.model: Any = _load(folder, flash_attention=self._autocast).to(device)
        self.model.eval()  # no dropout: the policy that is trained is the one that samples
        self.tied = bool(self.model.config.tie_word_embeddings)
        self.layout: Layout = layout_for(str(self.model.config._attn_implementation))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._autocast):
            self._linear_head = linear_head(self.model)
        log.info("policy_loaded", attention=self.model.config._attn_implementation, layout=self.layout)

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
        """Take over tensors under the names of `tensors()`. Raises ValueError when names or shapes differ."""
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise ValueError(f"checkpoint and model differ in {sorted(own.keys() ^ tensors.keys())[:4]}")
        if shapes := [name for name, tensor in own.items() if tensor.shape != tensors[name].shape]:
            raise ValueError(f"checkpoint and model differ in the shapes of {sorted(shapes)[:4]}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])

    def logprobs(self, batch: MicroBatch, temperature: float, *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Log-probs of the completion tokens and, if asked, the entropy at each, [B, T] in float32, 0 on padding."""
        inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids, **batch.kernel_arguments()}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast):
            if self._linear_head is not None:
                hidden = self.model.base_model(**inputs, use_cache=False).last_hidden_state
                chosen = hidden.flatten(0, 1)[batch.positions]
                logprobs, entropies = linear_logprobs(
                    chosen, self._linear_head, batch.targets, temperature, entropy=entropy
                )
            else:
                logits = self.model(**inputs, use_cache=False).logits.flatten(0, 1)[batch.positions]
                logprobs, entropies = token_logprobs(logits, batch.targets, temperature)
        seen = batch.padded(entropies.detach()) if entropy and entropies is not None else None
        return batch.padded(logprobs), seen

    def export(self, folder: Path) -> None:
        """Write a plain Hugging Face folder, whole or not at all, in place of an older one."""
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        self.model.save_pretrained(temporary)
        copy_model_files(self.folder, temporary)
        replace_folder(temporary, folder)


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log softmax(logits / temperature) at `tokens`, and its entropy: [N, V], [N] -> 2 × [N] float32."""
    every = (logits.float() / temperature).log_softmax(-1)
    chosen = every.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen, -(every.detach().exp() * every.detach()).sum(-1)


@torch.no_grad()
def linear_head(model: Any) -> Tensor | None:
    """The weight [V, H] that turns the model's last hidden state into logits; None if logits depend on more.

    A bias, a soft cap, a scale: architectures differ and name it differently, so it is tried on a few tokens.
    """
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    # A small bias or a wide cap would pass the trial below, and grow with the logits.
    capped = getattr(model.config, "final_logit_softcapping", None)
    if weight is None or capped or getattr(head, "bias", None) is not None or model.base_model is model:
        return None
    tokens = torch.arange(8, device=weight.device).unsqueeze(0) % weight.shape[0]
    hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    if hidden.shape[-1] != weight.shape[1]:
        return None
    logits = model(input_ids=tokens, use_cache=False).logits
    plain = torch.nn.functional.linear(hidden, weight)
    return weight if torch.allclose(plain, logits, rtol=1e-4, atol=1e-4) else None


def _load(folder: Path, *, flash_attention: bool) -> Any:
    """The model in float32; with a kernel that takes sequences end to end where machine and architecture have one.

    Such kernels compute in half precision only: `flash_attention` says that the model will run under autocast.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import is_flash_attn_2_available
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # on a terminal or in a log it is noise

    if flash_attention and is_flash_attn_2_available():
        try:
            return AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="flash_attention_2"
            )
        except ValueError as error:
            log.warning("no_flash_attention", reason=str(error))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def copy_model_files(source: Path, target: Path) -> None:
    """Copy config, tokenizer and chat template; never weights, never what `target` already has."""
    for name in MODEL_FILES:
        if (source / name).is_file() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)

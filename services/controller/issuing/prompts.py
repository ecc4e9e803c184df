"""Dataset rows to prompt token ids, with the model's own chat template."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from services.job.datasets import Row
from services.job.spec import RolloutSpec

_LOADING = threading.Lock()


class PromptEncoder:
    """Tokenises prompts for one model."""

    def __init__(self, model_folder: Path, rollout: RolloutSpec) -> None:
        library = _transformers()
        self._tokenizer: Any = library.AutoTokenizer.from_pretrained(model_folder)
        config = library.AutoConfig.from_pretrained(model_folder)
        self._context = int(getattr(config, "max_position_embeddings", 0) or 0)
        self._rollout = rollout
        self.stop_token_ids = _stop_tokens(model_folder, self._tokenizer)

    def encode(self, row: Row) -> list[int]:
        """Token ids of the row's prompt, generation prompt included. Raises ValueError when it is too long."""
        messages = [dict(message) for message in row.messages]
        try:
            encoded = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        except TemplateError as error:  # templates refuse roles they don't know
            raise ValueError(f"messages: the model's chat template refuses them: {error}") from error
        token_ids = [int(token) for token in encoded["input_ids"]]
        if not token_ids:
            raise ValueError("messages: the prompt has no tokens")
        if len(token_ids) > self._rollout.max_prompt_tokens:
            limit = self._rollout.max_prompt_tokens
            raise ValueError(f"messages: the prompt has {len(token_ids)} tokens, rollout.max_prompt_tokens is {limit}")
        if self._context and len(token_ids) + self._rollout.max_tokens > self._context:
            total = len(token_ids) + self._rollout.max_tokens
            raise ValueError(
                f"messages: prompt and rollout.max_tokens take {total} tokens, the model has {self._context}"
            )
        return token_ids


def _stop_tokens(model_folder: Path, tokenizer: Any) -> list[int]:
    """End tokens of tokenizer and generation config."""
    found = {int(tokenizer.eos_token_id)} if tokenizer.eos_token_id is not None else set()
    if (model_folder / "generation_config.json").is_file():
        ends = _transformers().GenerationConfig.from_pretrained(model_folder).eos_token_id
        found.update([ends] if isinstance(ends, int) else ends or [])
    return sorted(found)


def _transformers() -> Any:
    """The library, with what is used here loaded by one thread at a time: its lazy loading fails for two at once."""
    with _LOADING:
        import transformers

        for name in ("AutoConfig", "AutoTokenizer", "GenerationConfig"):
            getattr(transformers, name)
        return transformers

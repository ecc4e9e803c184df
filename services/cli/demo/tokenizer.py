"""A character tokenizer for sums, with a chat template: user and assistant turns are marked by one token each.

It is Qwen2's own tokenizer over single characters, without merges: `AutoTokenizer` opens every Qwen2 folder with that
class, whatever tokenizer was saved there. Characters that the vocabulary lacks are left out.
"""

from __future__ import annotations

from typing import Any

SPECIAL = ("<pad>", "<unk>", "<eos>", "<user>", "<assistant>")
CHARACTERS = "0123456789+="

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ('user', 'assistant') %}"
    "{{ raise_exception('this model knows the roles user and assistant only') }}"
    "{% endif %}"
    "<{{ message['role'] }}>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<eos>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer(context_tokens: int) -> Any:
    """A fast tokenizer whose vocabulary is the special tokens and the characters of a sum."""
    from transformers import Qwen2Tokenizer

    return Qwen2Tokenizer(
        vocab={token: number for number, token in enumerate((*SPECIAL, *CHARACTERS))},
        merges=[],
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        extra_special_tokens=["<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_tokens,
    )

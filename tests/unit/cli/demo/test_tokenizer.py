"""The demo's tokenizer: what it says of itself holds in memory and after loading it the three ways the product does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.cli.demo.tokenizer import CHARACTERS, build_tokenizer

QUESTION = [{"role": "user", "content": "47+38="}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the demo writes it: the config of a Qwen2 decides what AutoTokenizer makes of the tokenizer."""
    from transformers import Qwen2Config

    path = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer(64)
    tokenizer.save_pretrained(path)
    Qwen2Config(vocab_size=len(tokenizer)).save_pretrained(path)
    return path


@pytest.fixture(params=["built", "AutoTokenizer", "PreTrainedTokenizerFast"])
def tokenizer(request: pytest.FixtureRequest, folder: Path) -> Any:
    import transformers

    if request.param == "built":
        return build_tokenizer(64)
    return getattr(transformers, request.param).from_pretrained(folder)


def test_every_character_is_one_token_and_comes_back(tokenizer: Any) -> None:
    ids = tokenizer(CHARACTERS)["input_ids"]
    assert len(set(ids)) == len(ids) == len(CHARACTERS)
    assert max(ids) < len(tokenizer)
    assert tokenizer.decode(ids) == CHARACTERS


def test_the_prompt_ends_where_the_answer_begins(tokenizer: Any) -> None:
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(prompt) == ["<user>", *"47+38=", "<assistant>"]


def test_a_whole_conversation_is_prompt_answer_and_end(tokenizer: Any) -> None:
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template([*QUESTION, {"role": "assistant", "content": "085"}], return_dict=True)
    assert whole["input_ids"] == [*prompt, *tokenizer("085")["input_ids"], tokenizer.eos_token_id]


def test_a_completion_decodes_to_its_digits_only(tokenizer: Any) -> None:
    ids = [*tokenizer("085")["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "085"


def test_roles_that_the_model_never_saw_are_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="user and assistant only"):
        tokenizer.apply_chat_template([{"role": "system", "content": "1"}], add_generation_prompt=True)
